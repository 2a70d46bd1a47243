//! Addresses and replies.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What the pages of the site may load: only files of the site.
const SITE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                           base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What other files that stages made may do: be shown.
const FILE_POLICY: &str =
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// What reports and comparisons may do: nothing outside themselves, and nothing with the site.
const PAGE_POLICY: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; \
                               script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A path and its query, decoded.
#[derive(Debug, Default)]
pub struct Url {
    /// The segments of the path; the last one is empty if the path ends with a slash.
    pub path: Vec<String>,
    /// The query in order; names can repeat.
    pub query: Vec<(String, String)>,
}

impl Url {
    /// Decodes a path without its leading slash; `None` if it is not UTF-8.
    pub fn parse(path: &str, query: &str) -> Option<Self> {
        let decode = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let form = |text: &str| decode(&text.replace('+', " "));
        let path = path.split('/').map(decode).collect::<Option<_>>()?;
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((form(name)?, form(value)?))
        });
        Some(Self { path, query: query.collect::<Option<_>>()? })
    }

    /// The first value of a name in the query.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }
}

/// Characters of a path segment that need no encoding.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as one segment of a path or as a value of a query.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// The answer to a request.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The content security policy.
    pub policy: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// The length of the log up to the end of the body.
    pub next: Option<u64>,
    /// Whether the run of the log has ended, so that nothing follows.
    pub ended: bool,
}

impl Reply {
    /// A reply with the status 200.
    fn new(content_type: &'static str, policy: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type, policy, body: body.into(), next: None, ended: false }
    }

    /// A page of the site.
    pub fn page(page: maud::Markup) -> Self {
        Self::new("text/html; charset=utf-8", SITE_POLICY, page.into_string())
    }

    /// An HTML file that a stage made.
    pub fn artifact_page(page: String) -> Self {
        Self::new("text/html; charset=utf-8", PAGE_POLICY, page)
    }

    /// A drawing.
    pub fn svg(text: impl Into<Vec<u8>>) -> Self {
        Self::new("image/svg+xml", FILE_POLICY, text)
    }

    /// A file of an artifact.
    pub fn file(content_type: &'static str, bytes: Vec<u8>) -> Self {
        Self::new(content_type, FILE_POLICY, bytes)
    }

    /// A style sheet, script or text of the site.
    pub fn own(content_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self::new(content_type, SITE_POLICY, text)
    }

    /// A short text with an error status.
    pub fn error(status: u16, text: &str) -> Self {
        Self { status, ..Self::new("text/plain; charset=utf-8", SITE_POLICY, format!("{text}\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_decoded() {
        let url = Url::parse("run/a%2Fb/", "stage=train%5Ba%3D1%5D&q=x+y&run=1&run=2&empty").unwrap();
        assert_eq!(url.path, ["run", "a/b", ""]);
        assert_eq!((url.get("stage"), url.get("q"), url.get("empty")), (Some("train[a=1]"), Some("x y"), Some("")));
        assert_eq!(url.query.iter().filter(|(name, _)| name == "run").count(), 2);
        assert!(Url::parse("%ff", "").is_none());
        assert_eq!(segment("train[a=1]/x y"), "train%5Ba%3D1%5D%2Fx%20y");
    }
}
