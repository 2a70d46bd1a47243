//! `[cache.remote]`: where results are shared, and whose results are trusted.

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::diagnostic::{Mistake, Mistakes};
use crate::config::spanned::{Named, filled, parsed};
use crate::policy::{Trust, VerifyingKey, is_scope};

/// A place that is shared with other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// A URL or a folder.
    pub url: String,
    /// Where results are written, and looked up first.
    pub scope: String,
    /// Where results are looked up after that, in this order.
    pub read: Vec<String>,
    /// Whose results are trusted.
    pub trust: Trust,
}

/// A place that is shared with other machines.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoteSection {
    /// A folder such as `/mnt/cache`, or `https://…`, `s3://…`, `gs://…`, `az://…`.
    #[serde(deserialize_with = "filled")]
    #[schemars(
        with = "String",
        length(min = 1),
        extend("errorMessage" = "a folder such as `/mnt/cache`, or `https://…`")
    )]
    url: String,
    /// Where results are written, and looked up first.
    #[serde(default)]
    scope: Scope,
    /// The scopes where results are looked up after that, in this order.
    #[serde(default)]
    read: Vec<Scope>,
    /// By scope, or a pattern such as `pr-*`: the public keys that may write to it.
    #[serde(default)]
    keys: Named<Vec<PublicKey>>,
}

/// The name of a scope.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(title = "scope name", extend(
    "pattern" = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$",
    "errorMessage" = "a scope has letters, digits, `-`, `_` and `.`"
))]
struct Scope(String);

/// A key that checks signatures.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(title = "public key", extend(
    "pattern" = "^(ed25519|hmac-sha256):[0-9a-f]{64}$",
    "errorMessage" = "a key is written as `ed25519:…` or `hmac-sha256:…` with 64 hexadecimal digits; `hamflow cache keygen` makes one"
))]
struct PublicKey(#[schemars(with = "String")] VerifyingKey);

impl RemoteSection {
    /// The section in the words of the rest of hamflow.
    pub(super) fn into_options(self) -> RemoteOptions {
        let trusted = |keys: Vec<PublicKey>| keys.into_iter().map(|PublicKey(key)| key).collect();
        let keys = self.keys.0.into_iter().map(|(pattern, keys)| (pattern.value, trusted(keys))).collect();
        RemoteOptions {
            url: self.url,
            scope: self.scope.0,
            read: self.read.into_iter().map(|Scope(name)| name).collect(),
            trust: Trust { keys, shared: None },
        }
    }

    /// Rejects keys that are neither a scope nor a pattern of scopes.
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        for (pattern, _) in &self.keys.0 {
            let text = pattern.value.as_str();
            let start = text.strip_suffix('*').unwrap_or(text);
            if text != "*" && !is_scope(start) {
                let message = format!("cache.remote.keys: `{text}` is neither a scope nor a pattern of scopes");
                mistakes.push(Mistake::new(pattern.span, message).hint("such as `main` or `pr-*`".to_owned()));
            }
        }
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| is_scope(text).then(|| Self(text.to_owned())))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is not repeated: somebody may have written a secret.
        let text = String::deserialize(deserializer)?;
        VerifyingKey::parse(&text).map(Self).map_err(|_| D::Error::custom("is not a public key"))
    }
}
