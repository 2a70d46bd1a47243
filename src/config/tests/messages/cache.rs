//! Mistakes in `[cache]` and `[cache.remote]`.

use insta::assert_snapshot;

use crate::config::tests::refused;

#[test]
fn the_cache_s_keys_are_checked() {
    assert_snapshot!(
        refused(
            r#"[cache]
dri = "x"
nonsense = 1
dir = "./out/x"
link = 3
max_size = "20 apples"
max_age = "3 months"
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: cache: unknown key `dri`
  --> pipeline.toml:2:1
   |
 2 | dri = "x"
   | ^^^
hint: did you mean `dir`?

error: cache: unknown key `nonsense`
  --> pipeline.toml:3:1
   |
 3 | nonsense = 1
   | ^^^^^^^^
hint: the known keys are `dir`, `link`, `max_size`, `max_age` and `remote`

error: cache: `dir` cannot be `./out/x`
  --> pipeline.toml:4:7
   |
 4 | dir = "./out/x"
   |       ^^^^^^^^^
hint: name a folder of its own, not one in `out`, where outputs are laid out

error: cache: `link` takes a string, not a number
  --> pipeline.toml:5:8
   |
 5 | link = 3
   |        ^
hint: `copy` (reflinks where the file system has them, else copies) or `hard` (hard links, through which root can damage the store)

error: cache: `max_size` cannot be `20 apples`
  --> pipeline.toml:6:12
   |
 6 | max_size = "20 apples"
   |            ^^^^^^^^^^^
hint: write it as `"20GB"`, or `"none"`

error: cache: `max_age` cannot be `3 months`
  --> pipeline.toml:7:11
   |
 7 | max_age = "3 months"
   |           ^^^^^^^^^^
hint: write it as `"30d"` or `"12h"`, or `"none"`
"#
    );
}

#[test]
fn the_cache_s_values_have_their_types() {
    assert_snapshot!(
        refused(
            r#"[cache]
dir = 3
max_size = 3
max_age = ["3d"]
remote = "/mnt/cache"
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: cache: `dir` takes a string, not a number
  --> pipeline.toml:2:7
   |
 2 | dir = 3
   |       ^
hint: name a folder of its own, not one in `out`, where outputs are laid out

error: cache: `max_size` takes a string, not a number
  --> pipeline.toml:3:12
   |
 3 | max_size = 3
   |            ^
hint: write it as `"20GB"`, or `"none"`

error: cache: `max_age` takes a string, not a list
  --> pipeline.toml:4:11
   |
 4 | max_age = ["3d"]
   |           ^^^^^^
hint: write it as `"30d"` or `"12h"`, or `"none"`

error: cache: `remote` takes a table, not a string
  --> pipeline.toml:5:10
   |
 5 | remote = "/mnt/cache"
   |          ^^^^^^^^^^^^
hint: write `[cache.remote]`
"#
    );
}

#[test]
fn a_remote_has_a_url() {
    assert_snapshot!(
        refused(
            r#"[cache.remote]
scope = "main"
ulr = "/mnt/cache"
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: cache.remote: `url` is missing
  --> pipeline.toml:1:8
   |
 1 | [cache.remote]
   |        ^^^^^^
hint: a folder such as `/mnt/cache`, or `https://…`

error: cache.remote: unknown key `ulr`
  --> pipeline.toml:3:1
   |
 3 | ulr = "/mnt/cache"
   | ^^^
hint: did you mean `url`?
"#
    );
    assert_snapshot!(refused("[cache.remote]\nurl = 3\n[stages.a]\nkind = \"command\"\n"), @r#"
error: cache.remote: `url` takes a string, not a number
  --> pipeline.toml:2:7
   |
 2 | url = 3
   |       ^
hint: a folder such as `/mnt/cache`, or `https://…`
"#);
}

#[test]
fn scopes_of_a_remote_are_checked() {
    assert_snapshot!(
        refused(
            r#"[cache.remote]
url = "/mnt/cache"
scope = "a/b"
read = ["main", "..", 3]
nonsense = 1
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: cache.remote: `scope` cannot be `a/b`
  --> pipeline.toml:3:9
   |
 3 | scope = "a/b"
   |         ^^^^^
hint: a scope has letters, digits, `-`, `_` and `.`

error: cache.remote: an item of `read` cannot be `..`
  --> pipeline.toml:4:17
   |
 4 | read = ["main", "..", 3]
   |                 ^^^^
hint: a scope has letters, digits, `-`, `_` and `.`

error: cache.remote: an item of `read` is a number, not a scope name
  --> pipeline.toml:4:23
   |
 4 | read = ["main", "..", 3]
   |                       ^
hint: a scope has letters, digits, `-`, `_` and `.`

error: cache.remote: unknown key `nonsense`
  --> pipeline.toml:5:1
   |
 5 | nonsense = 1
   | ^^^^^^^^
hint: the known keys are `url`, `scope`, `read` and `keys`
"#
    );
}

#[test]
fn keys_of_a_remote_are_checked() {
    assert_snapshot!(
        refused(
            r#"[cache.remote]
url = "/mnt/cache"
[cache.remote.keys]
main = ["ed25519:12", 3]
"p/*" = []
"*" = "ed25519:12"
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: cache.remote.keys: an item of `main` is not a public key
  --> pipeline.toml:4:9
   |
 4 | main = ["ed25519:12", 3]
   |         ^^^^^^^^^^^^
hint: a key is written as `ed25519:…` or `hmac-sha256:…` with 64 hexadecimal digits; `hamflow cache keygen` makes one

error: cache.remote.keys: an item of `main` is a number, not a public key
  --> pipeline.toml:4:23
   |
 4 | main = ["ed25519:12", 3]
   |                       ^
hint: a key is written as `ed25519:…` or `hmac-sha256:…` with 64 hexadecimal digits; `hamflow cache keygen` makes one

error: cache.remote.keys: `p/*` is neither a scope nor a pattern of scopes
  --> pipeline.toml:5:1
   |
 5 | "p/*" = []
   | ^^^^^
hint: such as `main` or `pr-*`

error: cache.remote.keys: `*` takes a list of public keys, not a string
  --> pipeline.toml:6:7
   |
 6 | "*" = "ed25519:12"
   |       ^^^^^^^^^^^^
"#
    );
}

#[test]
fn scopes_and_keys_of_a_remote_have_their_types() {
    assert_snapshot!(
        refused(
            r#"[cache.remote]
url = "/mnt/cache"
scope = 3
read = "main"
keys = ["ed25519:12"]
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: cache.remote: `scope` takes a scope name, not a number
  --> pipeline.toml:3:9
   |
 3 | scope = 3
   |         ^
hint: a scope has letters, digits, `-`, `_` and `.`

error: cache.remote: `read` takes a list of scope names, not a string
  --> pipeline.toml:4:8
   |
 4 | read = "main"
   |        ^^^^^^

error: cache.remote: `keys` takes a table, not a list
  --> pipeline.toml:5:8
   |
 5 | keys = ["ed25519:12"]
   |        ^^^^^^^^^^^^^^
hint: write `[cache.remote.keys]`
"#
    );
}
