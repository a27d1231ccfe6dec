//! call-park
