//! group-pickup
