//! Suggestions for misspelt names, and lists of names in sentences.

/// The candidate closest to `name`, if it is close enough to be a typo or starts with `name`.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let lower = candidate.to_lowercase();
        let distance = strsim::damerau_levenshtein(&wanted, &lower);
        // A word of two letters is one edit away from too many others.
        let allowed = if length < 3 { 0 } else { (length / 3).max(1) };
        let rank = if distance <= allowed {
            distance
        } else if length >= 3 && lower.starts_with(&wanted) {
            allowed + 1
        } else {
            continue;
        };
        if candidate != name && best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// ``did you mean `epochs`?``, if a candidate is close.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(name, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// A hint for a name that is not among `candidates`: the closest one, or else a list of the candidates.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const SHOWN: usize = 16;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(hint) = did_you_mean(name, candidates.iter().copied()) {
        return Some(hint);
    }
    let shown: Vec<String> = candidates.iter().take(SHOWN).map(|candidate| format!("`{candidate}`")).collect();
    match candidates.len() {
        0 => None,
        n if n > SHOWN => Some(format!("available: {} and {} more", shown.join(", "), n - SHOWN)),
        _ => Some(format!("available: {}", shown.join(", "))),
    }
}

/// Names in a sentence: `` `a`, `b` and `c` ``.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    joined(&names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>(), "and")
}

/// A sentence about all names of a kind: `` the stages are `a` and `b` ``.
pub fn there_is<'a>(noun: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.len() {
        0 => format!("the file has no {noun}s"),
        1 => format!("the only {noun} is {}", listed(names)),
        _ => format!("the {noun}s are {}", listed(names)),
    }
}

/// Texts in a sentence: `a, b and c`.
pub fn joined(texts: &[String], last: &str) -> String {
    match texts {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_closest_candidate() {
        let known = ["epochs", "batch_size", "model"];
        assert_eq!(closest("epoch", known), Some("epochs"));
        assert_eq!(closest("Epochs", known), Some("epochs"));
        assert_eq!(closest("modle", known), Some("model"));
        assert_eq!(closest("batch", known), Some("batch_size"));
        assert_eq!(closest("Lesion_ID", ["image_id", "lesion_id"]), Some("lesion_id"));
        assert_eq!(closest("learning_rate", known), None);
    }

    #[test]
    fn a_short_word_is_not_close_to_every_other_short_word() {
        assert_eq!(closest("a", ["b", "c"]), None);
        assert_eq!(closest("lr", ["LR"]), Some("LR"));
    }

    #[test]
    fn without_a_close_match_the_hint_lists_the_candidates() {
        assert_eq!(hint("temperature", ["epochs", "seed"]).unwrap(), "available: `epochs`, `seed`");
        assert_eq!(hint("x", []), None);
    }

    #[test]
    fn names_form_a_sentence() {
        assert_eq!(listed(["a"]), "`a`");
        assert_eq!(listed(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
