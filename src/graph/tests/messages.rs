//! Slips in references, with their exact text.

use super::refused;

/// Two stages that are right.
const HEAD: &str = "\
[inputs]
rows = \"rows.csv\"
[stages.source]
csv = \"inputs.rows\"
[stages.pack]
table = \"source\"
";
#[test]
fn an_unknown_stage_is_named_with_what_was_meant() {
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
hint: a file is declared under `[inputs]` and called `inputs.NAME`"#
    );
}

#[test]
fn an_unknown_input_is_named_with_what_was_meant() {
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
fn an_input_must_be_declared() {
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
fn what_is_no_reference_is_said_to_be_none() {
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
fn an_unknown_artifact_is_named_with_what_there_is() {
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
fn a_stage_that_makes_nothing_that_fits_is_answered_with_who_does() {
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
fn an_artifact_of_the_wrong_type_is_answered_with_who_makes_the_right_one() {
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
        r#"error: stage `fit`: `shards` takes shards, but `pack.index` is of type index
  --> pipeline.toml:8:10
   |
 8 | shards = "pack.index"
   |          ^^^^^^^^^^^^
hint: write `shards = "pack"`"#
    );
}

#[test]
fn several_artifacts_that_fit_must_be_told_apart() {
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
        r#"error: stage `a`: `x` takes one of several artifacts of `source`
  --> pipeline.toml:7:16
   |
 7 | inputs = { x = "source" }
   |                ^^^^^^^^
hint: say which: `source.table` or `source.summary`"#
    );
}

#[test]
fn something_from_outside_fits_only_where_it_may() {
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
        r#"error: stage `fit`: `shards` takes shards from a stage, not something from `[inputs]`
  --> pipeline.toml:8:10
   |
 8 | shards = "inputs.rows"
   |          ^^^^^^^^^^^^^
hint: write `shards = "pack"`"#
    );
}

#[test]
fn a_port_for_something_from_outside_takes_no_artifact() {
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
fn a_port_for_one_takes_no_gathering() {
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
        r#"error: stage `gather`: `model` takes one artifact, but `fit[*]` gathers
  --> pipeline.toml:11:9
   |
11 | model = "fit[*]"
   |         ^^^^^^^^
hint: `fit` without `[*]` makes one stage per combination

error: stage `gather`: no stage `fit[lr=3]`
  --> pipeline.toml:12:9
   |
12 | other = "fit[lr=3]"
   |         ^^^^^^^^^^^
hint: there is `fit[lr=1]` and `fit[lr=2]`"#
    );
}

#[test]
fn nothing_is_taken_twice() {
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
fn a_cycle_is_named_along_the_flow_of_data() {
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
hint: a stage can only read what is made before it; remove one of these references

error: the stages form a cycle: `self -> self`
  --> pipeline.toml:12:9
   |
12 | table = "self"
   |         ^^^^^^
hint: a stage can only read what is made before it; remove one of these references"#
    );
}

#[test]
fn a_view_in_out_is_no_file_of_the_project() {
    assert_eq!(
        refused(
            r#"[stages.a]
kind = "command"
[stages.b]
kind = "command"
run = ["cat", "out/a/x.txt"]
"#
        ),
        r#"error: stage `b`: `out/a/x.txt` is a view of what `a` made
  --> pipeline.toml:3:1
   |
 3 | [stages.b]
   | ^^^^^^^^^^
hint: take it as an input: `inputs = { x = "a" }`, then `{inputs.x}`"#
    );
}
