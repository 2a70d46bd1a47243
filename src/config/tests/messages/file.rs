//! Mistakes in the syntax, `[pipeline]` and `[inputs]`.

use std::fs;

use insta::assert_snapshot;

use crate::config::Overrides;
use crate::config::tests::{Project, refused};

#[test]
fn a_slip_in_the_syntax_shows_what_was_expected() {
    assert_snapshot!(
        refused(
            r#"[stages.fit]
epochs = 
lr = 1
"#
        ),
        @r#"
error: a value is missing
  --> pipeline.toml:2:10
   |
 2 | epochs = 
   |          ^
"#
    );
}

#[test]
fn a_table_that_is_not_closed_is_shown() {
    assert_snapshot!(
        refused(
            r#"[stages.fit
epochs = 1
"#
        ),
        @r#"
error: unclosed table, expected `]`
  --> pipeline.toml:1:12
   |
 1 | [stages.fit
   |            ^
"#
    );
}

#[test]
fn an_unknown_section_is_named_with_what_was_meant() {
    assert_snapshot!(
        refused(
            r#"[stage.fit]
[fit]
[else]
[inputs]
rows = "rows.csv"
[stages.source]
csv = "inputs.rows"
[stages.pack]
table = "source"
"#
        ),
        @r#"
error: unknown key `stage`
  --> pipeline.toml:1:2
   |
 1 | [stage.fit]
   |  ^^^^^
hint: did you mean `stages`?

error: unknown key `fit`
  --> pipeline.toml:2:1
   |
 2 | [fit]
   | ^^^^^
hint: did you mean `[stages.fit]`?

error: unknown key `else`
  --> pipeline.toml:3:1
   |
 3 | [else]
   | ^^^^^^
hint: the file may have `pipeline`, `inputs`, `stages`, `profiles`, `cache` and `executors`
"#
    );
}

#[test]
fn sections_take_tables_and_their_keys_what_they_are_for() {
    assert_snapshot!(
        refused(
            r#"inputs = 3
pipeline = { nam = "x", seed = -1, name = 2 }
cache = { link = "soft", dir = "" }
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: `inputs` takes a table, not a number
  --> pipeline.toml:1:1
   |
 1 | inputs = 3
   | ^^^^^^
hint: write `[inputs]`

error: pipeline: unknown key `nam`
  --> pipeline.toml:2:14
   |
 2 | pipeline = { nam = "x", seed = -1, name = 2 }
   |              ^^^
hint: did you mean `name`?

error: pipeline: `seed` takes a whole number from 0
  --> pipeline.toml:2:32
   |
 2 | pipeline = { nam = "x", seed = -1, name = 2 }
   |                                ^^

error: pipeline: `name` takes a string, not a number
  --> pipeline.toml:2:43
   |
 2 | pipeline = { nam = "x", seed = -1, name = 2 }
   |                                           ^

error: cache: `link` cannot be `soft`
  --> pipeline.toml:3:18
   |
 3 | cache = { link = "soft", dir = "" }
   |                  ^^^^^^
hint: `copy` (reflinks where the file system has them, else copies) or `hard` (hard links, through which root can damage the store)

error: cache: `dir` is empty
  --> pipeline.toml:3:32
   |
 3 | cache = { link = "soft", dir = "" }
   |                                ^^
hint: name a folder of its own, not one in `out`, where outputs are laid out
"#
    );
}

#[test]
fn an_input_is_a_path_or_a_list_of_folders() {
    assert_snapshot!(
        refused(
            r#"[inputs]
a = []
b = ["x", "./y/../x"]
c = 3
d = ["", 4]
"e f" = "x"
[stages.a]
kind = "command"
"#
        ),
        @r#"
error: inputs: `a` is an empty list
  --> pipeline.toml:2:5
   |
 2 | a = []
   |     ^^
hint: write a path such as `"data/images"`, or a list of folders

error: inputs: `b` lists the folder `./y/../x` twice
  --> pipeline.toml:3:11
   |
 3 | b = ["x", "./y/../x"]
   |           ^^^^^^^^^^

error: inputs: `c` takes a path or a list of paths, not a number
  --> pipeline.toml:4:5
   |
 4 | c = 3
   |     ^
hint: write a path such as `"data/images"`, or a list of folders

error: inputs: an item of `d` is empty
  --> pipeline.toml:5:6
   |
 5 | d = ["", 4]
   |      ^^

error: inputs: an item of `d` is a number, not a path
  --> pipeline.toml:5:10
   |
 5 | d = ["", 4]
   |          ^

error: `e f` cannot be the name of an input
  --> pipeline.toml:6:1
   |
 6 | "e f" = "x"
   | ^^^^^
hint: use letters, digits, `_` and `-`
"#
    );
}

#[test]
fn a_pipeline_without_stages_says_how_to_add_one() {
    assert_snapshot!(
        refused(
            r#"[pipeline]
name = "x"
"#
        ),
        @r#"
error: the pipeline has no stages
hint: add `[stages.NAME]`; `hamflow kinds` lists what a stage can do
"#
    );
}

#[test]
fn a_file_that_is_not_there_says_how_to_start() {
    let project = Project::new("");
    fs::remove_file(project.folder.path().join("pipeline.toml")).unwrap();
    assert_snapshot!(
        project.load(&Overrides::default()).err().unwrap(),
        @r#"
error: `pipeline.toml` does not exist
hint: `hamflow init` writes one to start from
"#
    );
}

#[test]
fn a_file_in_another_encoding_says_where() {
    let project = Project::new("");
    fs::write(project.folder.path().join("pipeline.toml"), b"# a\n# \xe4\n").unwrap();
    assert_snapshot!(
        project.load(&Overrides::default()).err().unwrap(),
        @r#"
error: `pipeline.toml` is not UTF-8 in line 2
hint: save it as UTF-8
"#
    );
}
