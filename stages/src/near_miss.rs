//! Finds the name that was probably meant.

/// The candidate closest to `name`, if one is close enough to be a slip of the keyboard.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (name.chars().count().max(candidate.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint for a name that is not among `candidates`: the one that was meant, else all of them.
pub fn hint<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const SHOWN: usize = 16;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(meant) = closest(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let shown: Vec<String> = candidates.iter().take(SHOWN).map(|candidate| format!("`{candidate}`")).collect();
    match candidates.len() {
        0 => None,
        1 => Some(format!("the only one is {}", shown[0])),
        n if n > SHOWN => Some(format!("there are {} and {} more", shown.join(", "), n - SHOWN)),
        _ => Some(format!("there are {}", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_what_was_meant() {
        assert_eq!(closest("epoch", ["epochs", "seed"]), Some("epochs"));
        assert_eq!(closest("Lesion_ID", ["image_id", "lesion_id"]), Some("lesion_id"));
        assert_eq!(closest("temperature", ["epochs", "seed"]), None);
    }

    #[test]
    fn without_a_near_miss_the_hint_lists_what_there_is() {
        assert_eq!(hint("temperature", ["epochs", "seed"]).unwrap(), "there are `epochs`, `seed`");
        assert_eq!(hint("x", []), None);
    }
}
