//! "Did you mean …?": what somebody probably meant who wrote a name that is not there.

/// The word of `known` that `word` was probably meant to be.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length == 0 {
        return None;
    }
    // A third of the letters may be wrong; a swapped pair counts once. More than that is a guess, not a help.
    let most = (length / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            let folded = candidate.to_lowercase();
            // Half a word is as good as a misspelt one: `bindings` for `bindings_per_user`.
            let begun = length >= 3 && folded.starts_with(&word);
            (if begun { 1 } else { strsim::damerau_levenshtein(&word, &folded) }, candidate)
        })
        .filter(|(distance, _)| *distance <= most)
        .min() // the nearest, and of equally near ones the first of the alphabet
        .map(|(_, candidate)| candidate)
}

/// `, did you mean X?` for the nearest of `known`, or nothing if none is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|near| format!(", did you mean {near}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_none() {
        let known = ["pickup_timeout", "music_on_hold", "orbit_choice", "bindings_per_user"];
        assert_eq!(nearest("pickup_timout", known), Some("pickup_timeout"));
        assert_eq!(nearest("muisc_on_hold", known), Some("music_on_hold"));
        assert_eq!(nearest("Music_On_Hold", known), Some("music_on_hold"));
        assert_eq!(nearest("bindings", known), Some("bindings_per_user"));
        assert_eq!(nearest("volume", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(did_you_mean("musik_on_hold", known), ", did you mean music_on_hold?");
        assert_eq!(did_you_mean("volume", known), "");
    }
}
