//! Suggestions for misspelt names.

/// The candidate closest to `name`, if it is close enough to be a typo.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (name.chars().count().max(candidate.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint for a name that is not among `candidates`: the closest one, or else a list of the candidates.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const SHOWN: usize = 16;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(meant) = closest(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let shown: Vec<String> = candidates.iter().take(SHOWN).map(|candidate| format!("`{candidate}`")).collect();
    match candidates.len() {
        0 => None,
        n if n > SHOWN => Some(format!("available: {} and {} more", shown.join(", "), n - SHOWN)),
        _ => Some(format!("available: {}", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_closest_candidate() {
        assert_eq!(closest("epoch", ["epochs", "seed"]), Some("epochs"));
        assert_eq!(closest("Lesion_ID", ["image_id", "lesion_id"]), Some("lesion_id"));
        assert_eq!(closest("temperature", ["epochs", "seed"]), None);
    }

    #[test]
    fn without_a_close_match_the_hint_lists_the_candidates() {
        assert_eq!(hint("temperature", ["epochs", "seed"]).unwrap(), "available: `epochs`, `seed`");
        assert_eq!(hint("x", []), None);
    }
}
