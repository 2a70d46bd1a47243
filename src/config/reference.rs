//! The parts of a reference: `inputs.NAME`, `STAGE`, `STAGE.ARTIFACT`, `STAGE[*]`, `STAGE[axis=value].ARTIFACT`.

/// A parsed reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReferenceTarget<'a> {
    /// `inputs.NAME`.
    Input(&'a str),
    /// Everything else.
    Stage {
        /// The name in the file.
        base: &'a str,
        /// Which combinations of a matrix.
        selection: Selection<'a>,
        /// The artifact, where it is named.
        artifact: Option<&'a str>,
    },
}

/// Which combinations of a stage with a matrix a reference takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection<'a> {
    /// `train`: the stage itself; of a matrix the combination that the reader follows.
    Follow,
    /// `train[*]`: all of them.
    All,
    /// `train[lr=0.001]`: the stage of this whole name.
    One(&'a str),
}

impl<'a> ReferenceTarget<'a> {
    /// Parses a reference.
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("inputs.") {
            return (!name.is_empty()).then_some(Self::Input(name));
        }
        let Some(open) = text.find('[') else {
            let (base, artifact) = match text.split_once('.') {
                Some((base, artifact)) => (base, Some(artifact)),
                None => (text, None),
            };
            return Self::stage(base, Selection::Follow, artifact);
        };
        let close = open + text[open..].find(']')?;
        let selection = match &text[open + 1..close] {
            "" => return None,
            "*" => Selection::All,
            _ => Selection::One(&text[..=close]),
        };
        let artifact = match &text[close + 1..] {
            "" => None,
            rest => Some(rest.strip_prefix('.')?),
        };
        Self::stage(&text[..open], selection, artifact)
    }

    fn stage(base: &'a str, selection: Selection<'a>, artifact: Option<&'a str>) -> Option<Self> {
        let whole = !base.is_empty() && base != "inputs" && artifact != Some("");
        whole.then_some(Self::Stage { base, selection, artifact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage<'a>(base: &'a str, selection: Selection<'a>, artifact: Option<&'a str>) -> Option<ReferenceTarget<'a>> {
        Some(ReferenceTarget::Stage { base, selection, artifact })
    }

    #[test]
    fn every_form_of_a_reference_is_read() {
        let parse = ReferenceTarget::parse;
        assert_eq!(parse("inputs.images"), Some(ReferenceTarget::Input("images")));
        assert_eq!(parse("train"), stage("train", Selection::Follow, None));
        assert_eq!(parse("train.model"), stage("train", Selection::Follow, Some("model")));
        assert_eq!(parse("train[*]"), stage("train", Selection::All, None));
        assert_eq!(parse("train[*].model"), stage("train", Selection::All, Some("model")));
        let one = Selection::One("train[lr=0.001]");
        assert_eq!(parse("train[lr=0.001].model"), stage("train", one, Some("model")));
    }

    #[test]
    fn what_means_nothing_is_no_reference() {
        for text in ["", ".", "inputs", "inputs.", "train.", "train[", "train[]", "[*]", "train[*]model"] {
            assert_eq!(ReferenceTarget::parse(text), None, "{text}");
        }
    }
}
