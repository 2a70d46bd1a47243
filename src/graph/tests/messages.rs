//! Error messages about references.

use super::refused;

/// Two valid stages.
const HEAD: &str = "\
[inputs]
rows = \"rows.csv\"
[stages.source]
csv = \"inputs.rows\"
[stages.pack]
table = \"source\"
";
#[test]
fn an_unknown_stage_is_reported_with_a_suggestion() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pakc"
split = "nonsense"
[stages.gather]
model = "rows"
other = "models/best.bin"
"#
            ]
            .concat()
        ),
        r#"error: stage `fit`: no stage `pakc`
  --> pipeline.toml:8:10
   |
 8 | shards = "pakc"
   |          ^^^^^^
hint: did you mean `pack`?

error: stage `fit`: no stage `nonsense`
  --> pipeline.toml:9:9
   |
 9 | split = "nonsense"
   |         ^^^^^^^^^^
hint: the stages are `source`, `pack`, `fit` and `gather`

error: stage `gather`: no stage `rows`
  --> pipeline.toml:11:9
   |
11 | model = "rows"
   |         ^^^^^^
hint: did you mean `inputs.rows`?

error: stage `gather`: no stage `models/best`
  --> pipeline.toml:12:9
   |
12 | other = "models/best.bin"
   |         ^^^^^^^^^^^^^^^^^
hint: declare files under `[inputs]` and refer to them as `inputs.NAME`"#
    );
}

#[test]
fn an_unknown_input_is_reported_with_a_suggestion() {
    assert_eq!(
        refused(
            r#"[inputs]
rows = "x"
[stages.source]
csv = "inputs.row"
images = "inputs.nonsense"
"#
        ),
        r#"error: stage `source`: no input `row`
  --> pipeline.toml:4:7
   |
 4 | csv = "inputs.row"
   |       ^^^^^^^^^^^^
hint: did you mean `rows`?

error: stage `source`: no input `nonsense`
  --> pipeline.toml:5:10
   |
 5 | images = "inputs.nonsense"
   |          ^^^^^^^^^^^^^^^^^
hint: the only input is `rows`"#
    );
}

#[test]
fn inputs_must_be_declared() {
    assert_eq!(
        refused(
            r#"[stages.source]
csv = "inputs.rows"
"#
        ),
        r#"error: stage `source`: no input `rows`
  --> pipeline.toml:2:7
   |
 2 | csv = "inputs.rows"
   |       ^^^^^^^^^^^^^
hint: declare it: `[inputs] rows = "PATH"`"#
    );
}

#[test]
fn invalid_references_are_reported() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack["
split = "inputs"
"#
            ]
            .concat()
        ),
        r#"error: stage `fit`: `pack[` is not a reference
  --> pipeline.toml:8:10
   |
 8 | shards = "pack["
   |          ^^^^^^^
hint: write `inputs.NAME`, `STAGE`, `STAGE.ARTIFACT` or `STAGE[*]`

error: stage `fit`: `inputs` is not a reference
  --> pipeline.toml:9:9
   |
 9 | split = "inputs"
   |         ^^^^^^^^
hint: write `inputs.NAME`, `STAGE`, `STAGE.ARTIFACT` or `STAGE[*]`"#
    );
}

#[test]
fn an_unknown_artifact_is_reported_with_the_available_ones() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack.shard"
split = "source.nonsense"
"#
            ]
            .concat()
        ),
        r#"error: stage `fit`: `pack` has no artifact `shard`
  --> pipeline.toml:8:10
   |
 8 | shards = "pack.shard"
   |          ^^^^^^^^^^^^
hint: did you mean `shards`? `pack` makes `shards` and `index`

error: stage `fit`: `source` has no artifact `nonsense`
  --> pipeline.toml:9:9
   |
 9 | split = "source.nonsense"
   |         ^^^^^^^^^^^^^^^^^
hint: `source` makes `table` and `summary`"#
    );
}

#[test]
fn a_stage_without_a_fitting_artifact_is_reported_with_one_that_has_it() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.map]
table = "source"
[stages.fit]
shards = "map"
"#
            ]
            .concat()
        ),
        r#"error: stage `fit`: `shards` takes shards, but `map` makes table and balance
  --> pipeline.toml:10:10
   |
10 | shards = "map"
   |          ^^^^^
hint: write `shards = "pack"`"#
    );
}

#[test]
fn an_artifact_of_the_wrong_type_is_reported_with_a_suggestion() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack.index"
"#
            ]
            .concat()
        ),
        r#"error: stage `fit`: `shards` takes shards, but `pack.index` has the type index
  --> pipeline.toml:8:10
   |
 8 | shards = "pack.index"
   |          ^^^^^^^^^^^^
hint: write `shards = "pack"`"#
    );
}

#[test]
fn ambiguous_artifacts_are_reported() {
    assert_eq!(
        refused(
            r#"[inputs]
rows = "x"
[stages.source]
csv = "inputs.rows"
[stages.a]
kind = "command"
inputs = { x = "source" }
"#
        ),
        r#"error: stage `a`: `x` could take several artifacts of `source`
  --> pipeline.toml:7:16
   |
 7 | inputs = { x = "source" }
   |                ^^^^^^^^
hint: choose one: `source.table` or `source.summary`"#
    );
}

#[test]
fn declared_inputs_are_rejected_at_ports_for_artifacts() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "inputs.rows"
"#
            ]
            .concat()
        ),
        r#"error: stage `fit`: `shards` takes shards from a stage, not a declared input
  --> pipeline.toml:8:10
   |
 8 | shards = "inputs.rows"
   |          ^^^^^^^^^^^^^
hint: write `shards = "pack"`"#
    );
}

#[test]
fn artifacts_are_rejected_at_ports_for_declared_inputs() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.again]
kind = "source"
csv = "inputs.rows"
images = "pack"
"#
            ]
            .concat()
        ),
        r#"error: stage `again`: `images` takes something from `[inputs]`, but `pack` makes shards and index
  --> pipeline.toml:10:10
   |
10 | images = "pack"
   |          ^^^^^^
hint: write `images = "inputs.NAME"` and declare NAME under `[inputs]`"#
    );
}

#[test]
fn gathering_is_rejected_at_ports_for_one_artifact() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
matrix.lr = [1, 2]
[stages.gather]
model = "fit[*]"
other = "fit[lr=3]"
"#
            ]
            .concat()
        ),
        r#"error: stage `gather`: `model` takes one artifact, but `fit[*]` selects several
  --> pipeline.toml:11:9
   |
11 | model = "fit[*]"
   |         ^^^^^^^^
hint: use `fit` without `[*]` to run this stage once per combination

error: stage `gather`: no stage `fit[lr=3]`
  --> pipeline.toml:12:9
   |
12 | other = "fit[lr=3]"
   |         ^^^^^^^^^^^
hint: the combinations are `fit[lr=1]` and `fit[lr=2]`"#
    );
}

#[test]
fn duplicate_sources_are_rejected() {
    assert_eq!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
[stages.gather]
metrics = ["fit", "fit.metrics"]
"#
            ]
            .concat()
        ),
        r#"error: stage `gather`: `metrics` takes `fit.metrics` twice
  --> pipeline.toml:10:19
   |
10 | metrics = ["fit", "fit.metrics"]
   |                   ^^^^^^^^^^^^^"#
    );
}

#[test]
fn a_cycle_is_reported_in_the_direction_of_the_data() {
    assert_eq!(
        refused(
            r#"[stages.a]
kind = "map"
table = "c"
[stages.b]
kind = "map"
table = "a"
[stages.c]
kind = "map"
table = "b"
[stages.self]
kind = "map"
table = "self"
"#
        ),
        r#"error: the stages form a cycle: `a -> b -> c -> a`
  --> pipeline.toml:3:9
   |
 3 | table = "c"
   |         ^^^
hint: remove one of these references

error: the stages form a cycle: `self -> self`
  --> pipeline.toml:12:9
   |
12 | table = "self"
   |         ^^^^^^
hint: remove one of these references"#
    );
}

#[test]
fn files_in_out_are_not_project_files() {
    assert_eq!(
        refused(
            r#"[stages.a]
kind = "command"
[stages.b]
kind = "command"
run = ["cat", "out/a/x.txt"]
"#
        ),
        r#"error: stage `b`: `out/a/x.txt` is an output of stage `a`
  --> pipeline.toml:3:1
   |
 3 | [stages.b]
   | ^^^^^^^^^^
hint: declare it as an input: `inputs = { x = "a" }`, and use `{inputs.x}`"#
    );
}
