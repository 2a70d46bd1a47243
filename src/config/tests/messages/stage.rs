//! Mistakes in a stage.

use insta::assert_snapshot;

use super::HEAD;
use crate::config::tests::refused;

#[test]
fn an_unknown_kind_is_named_with_what_was_meant() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.a]
kind = "fti"
[stages.b]
kind = 3
[stages.c]
kind = "nonsense"
"#
            ]
            .concat()
        ),
        @r#"
error: stage `a`: unknown kind `fti`
  --> pipeline.toml:8:8
   |
 8 | kind = "fti"
   |        ^^^^^
hint: did you mean `fit`? `hamflow kinds` lists all kinds

error: stage `b`: `kind` takes a string, not a number
  --> pipeline.toml:10:8
   |
10 | kind = 3
   |        ^

error: stage `c`: unknown kind `nonsense`
  --> pipeline.toml:12:8
   |
12 | kind = "nonsense"
   |        ^^^^^^^^^^
hint: `hamflow kinds` lists all kinds
"#
    );
}

#[test]
fn a_stage_without_a_kind_must_be_called_like_one() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.clean]
table = "source"
[stages.comand]
"#
            ]
            .concat()
        ),
        @r#"
error: stage `clean`: no kind is called `clean`, and it does not say `kind = "…"`
  --> pipeline.toml:7:1
   |
 7 | [stages.clean]
   | ^^^^^^^^^^^^^^
hint: `hamflow kinds` lists all kinds

error: stage `comand`: no kind is called `comand`, and it does not say `kind = "…"`
  --> pipeline.toml:9:1
   |
 9 | [stages.comand]
   | ^^^^^^^^^^^^^^^
hint: did you mean `command`? `hamflow kinds` lists all kinds
"#
    );
}

#[test]
fn names_that_no_file_system_takes_are_refused() {
    let long = "x".repeat(201);
    let text = refused(&format!("[stages.{long}]\nkind = \"command\"\n"));
    assert!(text.contains("has 201 bytes, but at most 200 are possible\n  --> pipeline.toml:1:1"), "{text}");
    let (name, outputs) = ("y".repeat(256), "[stages.a]\nkind = \"command\"\n[stages.a.outputs]\n");
    let text = refused(&format!("{outputs}b = {{ type = \"file\", path = \"c/{name}\" }}\n"));
    assert!(text.contains("the path of output `b`") && text.contains("has a name of more than 255 bytes"), "{text}");
}

#[test]
fn a_name_has_no_odd_characters() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages."a b"]
kind = "command"
[stages.inputs]
kind = "command"
"#
            ]
            .concat()
        ),
        @r#"
error: `a b` cannot be the name of a stage
  --> pipeline.toml:7:1
   |
 7 | [stages."a b"]
   | ^^^^^^^^^^^^^^
hint: use letters, digits, `_` and `-`

error: `inputs` cannot be the name of a stage
  --> pipeline.toml:9:1
   |
 9 | [stages.inputs]
   | ^^^^^^^^^^^^^^^
hint: `inputs.NAME` is reserved for declared inputs
"#
    );
}

#[test]
fn a_stage_is_a_table() {
    assert_snapshot!(
        refused(
            r#"[stages]
fit = 3
"#
        ),
        @r#"
error: stage `fit`: a stage is a table, not a number
  --> pipeline.toml:2:1
   |
 2 | fit = 3
   | ^^^
hint: write `[stages.fit]`
"#
    );
}

#[test]
fn an_unknown_parameter_is_named_with_what_was_meant() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epoch = 3
shard = "pack"
sede = 1
nonsense = 1
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: unknown parameter `epoch`
  --> pipeline.toml:9:1
   |
 9 | epoch = 3
   | ^^^^^
hint: did you mean `epochs`?

error: stage `fit`: unknown parameter `shard`
  --> pipeline.toml:10:1
   |
10 | shard = "pack"
   | ^^^^^
hint: did you mean `shards`?

error: stage `fit`: unknown parameter `sede`
  --> pipeline.toml:11:1
   |
11 | sede = 1
   | ^^^^
hint: did you mean `seed`?

error: stage `fit`: unknown parameter `nonsense`
  --> pipeline.toml:12:1
   |
12 | nonsense = 1
   | ^^^^^^^^
hint: `hamflow kinds fit` lists its parameters
"#
    );
}

#[test]
fn a_refused_value_is_shown_where_it_is_written() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
epochs = 0
[stages.map]
table = "source"
column = ""
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: `epochs` must be a whole number of at least 1
  --> pipeline.toml:9:10
   |
 9 | epochs = 0
   |          ^

error: stage `map`: `column` is empty
  --> pipeline.toml:12:10
   |
12 | column = ""
   |          ^^
hint: name a column of the table
"#
    );
}

#[test]
fn a_value_of_the_wrong_type_is_shown_with_its_name() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
lr = "fast"
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: `lr`: invalid type, expected something like 0.001
  --> pipeline.toml:9:6
   |
 9 | lr = "fast"
   |      ^^^^^^
"#
    );
}

#[test]
fn a_refused_value_deep_in_a_table_is_shown_where_it_is_written() {
    assert_snapshot!(
        refused(
            r#"[stages.x]
kind = "command"
[stages.x.outputs]
y = { path = "y.txt", type = "fiel" }
"#
        ),
        @r#"
error: stage `x`: `outputs.y.type`: no artifact type "fiel"
  --> pipeline.toml:4:30
   |
 4 | y = { path = "y.txt", type = "fiel" }
   |                              ^^^^^^
"#
    );
}

#[test]
fn a_missing_input_is_named_with_who_makes_it() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
[stages.again]
kind = "source"
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: `shards` is missing: it takes shards
  --> pipeline.toml:7:1
   |
 7 | [stages.fit]
   | ^^^^^^^^^^^^
hint: write `shards = "pack"`

error: stage `again`: `csv` is missing: it takes csv, or something from `[inputs]`
  --> pipeline.toml:8:1
   |
 8 | [stages.again]
   | ^^^^^^^^^^^^^^
hint: write `csv = "inputs.NAME"` and declare NAME under `[inputs]`
"#
    );
}

#[test]
fn inputs_that_exclude_each_other_are_named() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"

[stages.gather]
metrics = "fit"
shards = "pack"
"#
            ]
            .concat()
        ),
        @r#"
error: stage `gather`: `shards` and `metrics` exclude each other
  --> pipeline.toml:10:1
   |
10 | [stages.gather]
   | ^^^^^^^^^^^^^^^
hint: remove one of them
"#
    );
}

#[test]
fn a_missing_input_that_nothing_makes_says_so() {
    assert_snapshot!(
        refused(
            r#"[stages.fit]
    "#
        ),
        @r#"
error: stage `fit`: `shards` is missing: it takes shards
  --> pipeline.toml:1:1
   |
 1 | [stages.fit]
   | ^^^^^^^^^^^^
hint: no stage makes shards
"#
    );
}

#[test]
fn a_port_takes_a_reference() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = ["pack"]
split = 3
[stages.gather]
metrics = ["fit", 4]
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: `shards` takes one reference, not a list
  --> pipeline.toml:8:10
   |
 8 | shards = ["pack"]
   |          ^^^^^^^^

error: stage `fit`: `split` takes a reference, not a number
  --> pipeline.toml:9:9
   |
 9 | split = 3
   |         ^
hint: write `inputs.NAME`, `STAGE` or `STAGE.ARTIFACT`, in quotes

error: stage `gather`: `metrics` takes references, not a number
  --> pipeline.toml:11:19
   |
11 | metrics = ["fit", 4]
   |                   ^
hint: write `inputs.NAME`, `STAGE` or `STAGE.ARTIFACT`, in quotes
"#
    );
}

#[test]
fn a_required_port_takes_no_empty_list() {
    assert_snapshot!(
        refused(
            r#"[stages.a]
kind = "command"
inputs = { x = [], "y z" = "a", w = 3 }
[stages.b]
kind = "command"
inputs = 3
"#
        ),
        @r#"
error: stage `a`: the list at `x` is empty
  --> pipeline.toml:3:16
   |
 3 | inputs = { x = [], "y z" = "a", w = 3 }
   |                ^^

error: stage `a`: `y z` cannot be the name of an input
  --> pipeline.toml:3:20
   |
 3 | inputs = { x = [], "y z" = "a", w = 3 }
   |                    ^^^^^
hint: use letters, digits, `_` and `-`, and each name once

error: stage `a`: `w` takes a reference, not a number
  --> pipeline.toml:3:37
   |
 3 | inputs = { x = [], "y z" = "a", w = 3 }
   |                                     ^
hint: write `inputs.NAME`, `STAGE` or `STAGE.ARTIFACT`, in quotes

error: stage `b`: `inputs` takes a table, not a number
  --> pipeline.toml:6:10
   |
 6 | inputs = 3
   |          ^
hint: write `inputs = { name = "reference" }`
"#
    );
}

#[test]
fn the_resources_of_a_stage_are_checked() {
    assert_snapshot!(
        refused(&[HEAD, "[stages.fit]\nresources = { cpus = 0, memory = \"more\", cores = 1 }\nshards = \"pack\"\n"].concat()),
        @r#"
error: stage `fit`: `resources.cpus` takes `"all"` or a whole number from 1
  --> pipeline.toml:8:22
   |
 8 | resources = { cpus = 0, memory = "more", cores = 1 }
   |                      ^
hint: write a number of cores from 1, or `"all"`

error: stage `fit`: `resources.memory` cannot be `more`
  --> pipeline.toml:8:34
   |
 8 | resources = { cpus = 0, memory = "more", cores = 1 }
   |                                  ^^^^^^
hint: write it as `"2GB"` or `"512MiB"`

error: stage `fit`: unknown key `resources.cores`
  --> pipeline.toml:8:42
   |
 8 | resources = { cpus = 0, memory = "more", cores = 1 }
   |                                          ^^^^^
hint: the known keys are `cpus`, `memory`, `time`, `gpus` and `partition`
"#
    );
}

#[test]
fn the_engine_s_own_keys_are_checked() {
    assert_snapshot!(
        refused(
            &[
                HEAD,
                r#"[stages.fit]
shards = "pack"
seed = 1.5
memory = "much"
env = ["A", "B=C", 3]
secret_env = ["A"]
[stages.map]
table = "source"
seed = 3
env = "A"
"#
            ]
            .concat()
        ),
        @r#"
error: stage `fit`: `seed` takes a whole number from 0
  --> pipeline.toml:9:8
   |
 9 | seed = 1.5
   |        ^^^

error: stage `fit`: `memory` cannot be `much`
  --> pipeline.toml:10:10
   |
10 | memory = "much"
   |          ^^^^^^
hint: write it as `"2GB"` or `"512MiB"`

error: stage `fit`: an item of `env` cannot be `B=C`
  --> pipeline.toml:11:13
   |
11 | env = ["A", "B=C", 3]
   |             ^^^^^
hint: a variable name has no `=`

error: stage `fit`: an item of `env` is a number, not a variable name
  --> pipeline.toml:11:20
   |
11 | env = ["A", "B=C", 3]
   |                    ^
hint: a variable name has no `=`

error: stage `fit`: `A` is in `env` and in `secret_env`
  --> pipeline.toml:12:1
   |
12 | secret_env = ["A"]
   | ^^^^^^^^^^

error: stage `map`: `seed` has no effect, because `map` draws no random numbers
  --> pipeline.toml:15:1
   |
15 | seed = 3
   | ^^^^

error: stage `map`: `env` takes a list of variable names, not a string
  --> pipeline.toml:16:7
   |
16 | env = "A"
   |       ^^^
"#
    );
}

#[test]
fn outputs_of_a_stage_do_not_meet() {
    assert_snapshot!(
        refused(
            r#"[stages.a]
kind = "command"
[stages.a.outputs]
a = { type = "file", path = "x" }
b = { type = "file", path = "x" }
c = { type = "file", path = "x/y" }
d = { type = "file", path = "../d" }
"#
        ),
        @r#"
error: stage `a`: the outputs `a` and `b` are both at `x`
  --> pipeline.toml:1:1
   |
 1 | [stages.a]
   | ^^^^^^^^^^

error: stage `a`: the output `c` would lie inside the file of `a`, `x`
  --> pipeline.toml:1:1
   |
 1 | [stages.a]
   | ^^^^^^^^^^

error: stage `a`: the output `c` would lie inside the file of `b`, `x`
  --> pipeline.toml:1:1
   |
 1 | [stages.a]
   | ^^^^^^^^^^

error: stage `a`: the output `d` cannot be at `../d`
  --> pipeline.toml:1:1
   |
 1 | [stages.a]
   | ^^^^^^^^^^
hint: use a path below the stage's output folder, without `.`, `..` and `\`
"#
    );
}
