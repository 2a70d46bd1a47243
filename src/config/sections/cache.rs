//! `[cache]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::inputs::normal;
use super::remote::{RemoteOptions, RemoteSection};
use crate::config::quantity::{parse_age, parse_size};
use crate::config::spanned::parsed;
use crate::fs::LinkMode;
use crate::policy::Limits;

/// Where the store is unless `[cache] dir` says otherwise, below the project's root.
pub const DEFAULT_CACHE_DIR: &str = "cache";

/// `[cache]`.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The store's root: relative to the project's root, or absolute. Default `cache`.
    pub dir: PathBuf,
    /// How `out/` is made from the store.
    pub link: LinkMode,
    /// Limits on the unreferenced results that are kept.
    pub limits: Limits,
    /// Where results are shared, if they are.
    pub remote: Option<RemoteOptions>,
}

/// Where results are kept, and for how long.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CacheSection {
    /// Where the store is.
    #[serde(deserialize_with = "dir")]
    #[schemars(
        with = "String",
        length(min = 1),
        extend("errorMessage" = "name a folder of its own, not one in `out`, where outputs are laid out")
    )]
    dir: PathBuf,
    /// How `out/` is made from the store.
    link: LinkMode,
    /// Of results that neither a lock nor one of the last 20 runs needs, the least recently used are deleted until all blobs together fit; `none` for no limit.
    #[schemars(
        with = "String",
        extend("default" = "20GB", "errorMessage" = "write it as `\"20GB\"`, or `\"none\"`")
    )]
    max_size: MaxSize,
    /// How long such a result stays without being used; `none` for ever.
    #[schemars(
        with = "String",
        regex(pattern = "^([0-9]+[hdw]|none)$"),
        extend("default" = "30d", "errorMessage" = "write it as `\"30d\"` or `\"12h\"`, or `\"none\"`")
    )]
    max_age: MaxAge,
    /// Where results are shared with other machines.
    pub(super) remote: Option<RemoteSection>,
}

impl CacheSection {
    /// The section in the words of the rest of hamflow.
    pub(crate) fn into_options(self) -> CacheOptions {
        let limits = Limits { max_bytes: self.max_size.0, max_age: self.max_age.0 };
        let remote = self.remote.map(RemoteSection::into_options);
        CacheOptions { dir: self.dir, link: self.link, limits, remote }
    }
}

impl Default for CacheSection {
    fn default() -> Self {
        let Limits { max_bytes, max_age } = Limits::default();
        let (dir, link) = (DEFAULT_CACHE_DIR.into(), LinkMode::default());
        Self { dir, link, max_size: MaxSize(max_bytes), max_age: MaxAge(max_age), remote: None }
    }
}

/// Bytes; none is without limit.
#[derive(Debug, Clone, Copy)]
struct MaxSize(Option<u64>);

/// A time; none is without limit.
#[derive(Debug, Clone, Copy)]
struct MaxAge(Option<std::time::Duration>);

/// A limit, or `none` for no limit.
fn limit<T>(text: &str, parse: fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text == "none" { Some(None) } else { parse(text).map(Some) }
}

impl<'de> Deserialize<'de> for MaxSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| limit(text, parse_size)).map(Self)
    }
}

impl<'de> Deserialize<'de> for MaxAge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| limit(text, parse_age)).map(Self)
    }
}

fn dir<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    parsed(deserializer, |text| (!text.is_empty() && !normal(text).starts_with("out")).then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::field_schema::properties_of;

    #[test]
    fn the_schema_shows_the_default_limits() {
        let properties = properties_of::<CacheSection>();
        let default = |key: &str| properties[key]["default"].as_str().unwrap().to_owned();
        let shown = Limits { max_bytes: parse_size(&default("max_size")), max_age: parse_age(&default("max_age")) };
        assert_eq!(shown, CacheSection::default().into_options().limits);
    }
}
