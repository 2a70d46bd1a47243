//! Mistakes in a matrix.

use insta::assert_snapshot;

use super::HEAD;
use crate::config::tests::refused;

#[test]
fn an_unknown_axis_is_named_with_what_was_meant() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
matrix = { epoch = [1], nonsense = [2] }
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: unknown axis `epoch`
  --> pipeline.toml:9:12
   |
 9 | matrix = { epoch = [1], nonsense = [2] }
   |            ^^^^^
hint: did you mean `epochs`?

error: stage `fit`: unknown axis `nonsense`
  --> pipeline.toml:9:25
   |
 9 | matrix = { epoch = [1], nonsense = [2] }
   |                         ^^^^^^^^
hint: an axis is a parameter of the stage, one of its inputs, or `seed`
"#
    );
}

#[test]
fn an_axis_is_a_list_of_single_values() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
[stages.fit.matrix]
epochs = 3
lr = [1.0, 1, [2]]
seed = [-1]
split = [3]
[stages.gather]
matrix.top = []
[stages.map]
table = "source"
matrix = 3
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: the axis `epochs` takes a list of values, not a number
  --> pipeline.toml:10:10
   |
10 | epochs = 3
   |          ^

error: stage `fit`: the axis `lr` has the value `1` twice
  --> pipeline.toml:11:12
   |
11 | lr = [1.0, 1, [2]]
   |            ^

error: stage `fit`: a value of the axis `lr` cannot be a list
  --> pipeline.toml:11:15
   |
11 | lr = [1.0, 1, [2]]
   |               ^^^
hint: strings, numbers and booleans can be part of a stage's name

error: stage `fit`: `seed` takes a whole number from 0
  --> pipeline.toml:12:9
   |
12 | seed = [-1]
   |         ^^

error: stage `fit`: `split` takes references, not a number
  --> pipeline.toml:13:10
   |
13 | split = [3]
   |          ^

error: stage `gather`: the axis `top` has no values
  --> pipeline.toml:15:14
   |
15 | matrix.top = []
   |              ^^

error: stage `map`: `matrix` takes a table, not a number
  --> pipeline.toml:18:10
   |
18 | matrix = 3
   |          ^
hint: write `matrix = { lr = [1e-3, 3e-4] }`
"#
    );
}

#[test]
fn a_value_of_an_axis_can_be_part_of_a_name() {
    assert_snapshot!(
        refused(&[HEAD, "[stages.fit]\nshards = \"pack\"\nmatrix.model = [\"a/b\", \"a,b\", \"\"]\n"].concat()),
        @r#"
error: stage `fit`: the value `a/b` of the axis `model` cannot be part of a stage's name
  --> pipeline.toml:9:17
   |
 9 | matrix.model = ["a/b", "a,b", ""]
   |                 ^^^^^
hint: it must not contain `[`, `]`, `,`, `=`, `/` or `\`

error: stage `fit`: the value `a,b` of the axis `model` cannot be part of a stage's name
  --> pipeline.toml:9:24
   |
 9 | matrix.model = ["a/b", "a,b", ""]
   |                        ^^^^^
hint: it must not contain `[`, `]`, `,`, `=`, `/` or `\`

error: stage `fit`: a value of the axis `model` is empty
  --> pipeline.toml:9:31
   |
 9 | matrix.model = ["a/b", "a,b", ""]
   |                               ^^
"#
    );
}

#[test]
fn a_refused_value_of_an_axis_is_shown_once() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
matrix = { epochs = [5, 0], lr = [1, 2, 3] }
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: `epochs` must be a whole number of at least 1
  --> pipeline.toml:9:25
   |
 9 | matrix = { epochs = [5, 0], lr = [1, 2, 3] }
   |                         ^
"#
    );
}

#[test]
fn a_matrix_has_a_limit() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
[stages.fit.matrix]
epochs = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
lr = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
seed = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: more than 1000 combinations
  --> pipeline.toml:10:1
   |
10 | epochs = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
   | ^^^^^^
"#
    );
}

#[test]
fn a_matrix_is_no_value_of_an_axis() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
matrix.lr = [1, 2]
[stages.judge]
kind = "gather"
matrix.model = ["fit"]
"#
            ]
            .concat()
        ),
        @r#"
error: stage `judge`: `fit` has a matrix itself, so it cannot be a value of an axis
  --> pipeline.toml:12:17
   |
12 | matrix.model = ["fit"]
   |                 ^^^^^
"#
    );
}
