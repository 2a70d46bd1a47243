//! Mistakes in profiles and `--set`.

use insta::assert_snapshot;

use super::HEAD;
use crate::config::tests::{Project, overrides, refused};

fn overridden(text: &str, profile: Option<&str>, set: &[&str]) -> String {
    Project::new(text).load(&overrides(profile, set)).err().expect("the pipeline is wrong")
}

#[test]
fn an_unknown_profile_is_named_with_what_was_meant() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 9
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.epochs = 3
"#
            ]
            .concat(),
            Some("dmeo"),
            &[]
        ),
        @r#"
error: no profile `dmeo`
hint: did you mean `demo`?
"#
    );
}

#[test]
fn a_profile_that_is_not_like_any_lists_what_there_is() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 9
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.epochs = 3
"#
            ]
            .concat(),
            Some("real"),
            &[]
        ),
        @r#"
error: no profile `real`
hint: the only profile is `demo`
"#
    );
}

#[test]
fn a_profile_of_a_file_without_profiles() {
    assert_snapshot!(
        overridden(HEAD, Some("real"), &[]),
        @r#"
error: no profile `real`
hint: the file has no profiles
"#
    );
}

#[test]
fn a_profile_changes_sections_only() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[profiles]
x = 3
[profiles.y]
stage.fit = 3
nonsense = 1
"#
            ]
            .concat()
        ),
        @r#"
error: profile `x`: a profile is a table, not a number
  --> pipeline.toml:8:1
   |
 8 | x = 3
   | ^

error: profile `y`: unknown key `stage`
  --> pipeline.toml:10:1
   |
10 | stage.fit = 3
   | ^^^^^
hint: did you mean `stages`?

error: profile `y`: unknown key `nonsense`
  --> pipeline.toml:11:1
   |
11 | nonsense = 1
   | ^^^^^^^^
hint: a profile changes `pipeline`, `inputs`, `stages`, `cache` and `executors`
"#
    );
}

#[test]
fn a_profile_that_misspells_a_stage_is_shown_the_one_that_was_meant() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.clean]
kind = "map"
table = "source"
[profiles.demo]
stages.claen.column = "sex"
"#
            ]
            .concat(),
            Some("demo"),
            &[]
        ),
        @r#"
error: stage `claen`: no kind is called `claen`, and it does not say `kind = "…"`
  --> pipeline.toml:11:8
   |
11 | stages.claen.column = "sex"
   |        ^^^^^
hint: did you mean `clean`? `hamflow kinds` lists all kinds
"#
    );
}

#[test]
fn set_names_a_stage_or_input_that_is_there() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 9
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.epochs = 3
"#
            ]
            .concat(),
            None,
            &["stages.fti.epochs=3", r#"inputs.row="x""#, "stages.nonsense.x=1"]
        ),
        @r#"
error: no stage `fti`
  --> --set:1:8
   |
 1 | stages.fti.epochs=3
   |        ^^^
hint: did you mean `fit`?

error: no input `row`
  --> --set:1:8
   |
 1 | inputs.row="x"
   |        ^^^
hint: did you mean `rows`?

error: no stage `nonsense`
  --> --set:1:8
   |
 1 | stages.nonsense.x=1
   |        ^^^^^^^^
hint: the stages are `source`, `pack` and `fit`
"#
    );
}

#[test]
fn set_needs_a_path_and_a_value() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 9
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.epochs = 3
"#
            ]
            .concat(),
            None,
            &["stages.fit.epochs", "=3", "a b=3", "stages.fit.epochs.x=3", "stages.fit.shards.x=3"]
        ),
        @r#"
error: `stages.fit.epochs` does not set anything
  --> --set:1:1
   |
 1 | stages.fit.epochs
   | ^^^^^^^^^^^^^^^^^
hint: write a path and a value, such as `stages.train.epochs=5`

error: `=3` does not set anything
  --> --set:1:1
   |
 1 | =3
   | ^^
hint: write a path and a value, such as `stages.train.epochs=5`

error: `a b=3` does not set anything
  --> --set:1:1
   |
 1 | a b=3
   | ^^^^^
hint: write a path and a value, such as `stages.train.epochs=5`

error: `stages.fit.epochs` is not a table
  --> --set:1:12
   |
 1 | stages.fit.epochs.x=3
   |            ^^^^^^

error: `stages.fit.shards` is not a table
  --> --set:1:12
   |
 1 | stages.fit.shards.x=3
   |            ^^^^^^
"#
    );
}

#[test]
fn set_does_not_lose_to_a_matrix() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 9
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.epochs = 3
"#
            ]
            .concat(),
            None,
            &["stages.fit.lr=3"]
        ),
        @r#"
error: stage `fit`: `lr` is an axis of the matrix
  --> --set:1:12
   |
 1 | stages.fit.lr=3
   |            ^^
hint: set its values: `stages.fit.matrix.lr = […]`
"#
    );
}

#[test]
fn a_mistake_on_the_command_line_is_shown_there() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 9
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.epochs = 3
"#
            ]
            .concat(),
            None,
            &["stages.fit.epochs=0", "stages.fit.epoch=5", "stage.fit.lr=1"]
        ),
        @r#"
error: stage `fit`: `epochs` must be a whole number of at least 1
  --> --set:1:19
   |
 1 | stages.fit.epochs=0
   |                   ^

error: stage `fit`: unknown parameter `epoch`
  --> --set:1:12
   |
 1 | stages.fit.epoch=5
   |            ^^^^^
hint: did you mean `epochs`?

error: unknown key `stage`
  --> --set:1:1
   |
 1 | stage.fit.lr=1
   | ^^^^^
hint: did you mean `stages`?
"#
    );
}

#[test]
fn a_profile_does_not_lose_to_a_matrix() {
    assert_snapshot!(
        overridden(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
matrix.lr = [1, 2]
[profiles.demo]
stages.fit.lr = 3
"#
            ]
            .concat(),
            Some("demo"),
            &[]
        ),
        @r#"
error: stage `fit`: `lr` is an axis of the matrix
  --> pipeline.toml:11:12
   |
11 | stages.fit.lr = 3
   |            ^^
hint: set its values: `stages.fit.matrix.lr = […]`
"#
    );
}
