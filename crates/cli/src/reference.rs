//! The page of all commands, `docs/guide/cli.md`, from what clap knows of them.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};

use crate::args::Args;

const INTRODUCTION: &str = "\
<!-- A test of fastauth-cli writes this page from the commands themselves. Do not edit it. -->

The program `fastauth` manages the keys, the configuration, the tokens and the token store. `fastauth --help` and
`fastauth COMMAND --help` say what is here.

```console
cargo install --locked --path crates/cli # in a clone of the repository
fastauth completions bash --install
fastauth man ~/.local/share/man/man1
```

Results go to standard output, and messages, questions and logs to standard error. Commands that show or list something have
`--json`. The examples below run in the order in which they stand; `$ACCESS_TOKEN`, `$REFRESH_TOKEN` and `$KID` are a token of each
type and the id of a key.
";

fn page() -> String {
    let mut command = Args::command();
    command.build();
    let mut text = INTRODUCTION.to_owned();
    let (exit_codes, _) = split_examples(&command);
    push(&mut text, format_args!("\n# Exit codes\n{}", exit_code_table(&exit_codes)));
    push(&mut text, format_args!("\n# Options of every command\n\n"));
    push_options(&mut text, command.get_arguments().filter(|arg| arg.is_global_set()));
    push_commands(&mut text, &command);
    text
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).unwrap();
}

fn exit_code_table(lines: &str) -> String {
    let rows = lines.lines().filter_map(|line| line.trim().split_once("  "));
    let rows = rows.map(|(code, meaning)| format!("| {} | {} |\n", code.trim(), meaning.trim()));
    format!("\n| code | |\n| --- | --- |\n{}", rows.collect::<String>())
}

/// Adds the commands below one, and those below them.
fn push_commands(text: &mut String, command: &Command) {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        if below.has_subcommands() {
            push_commands(text, below);
            continue;
        }
        let about = below.get_long_about().or(below.get_about()).unwrap().to_string();
        let usage = below.clone().render_usage().to_string();
        push(text, format_args!("\n# {}\n\n{about}\n\n", below.get_bin_name().unwrap()));
        push(text, format_args!("```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ")));
        push_options(text, below.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help"));
        let (rest, examples) = split_examples(below);
        if !rest.is_empty() {
            push(text, format_args!("\n{rest}\n"));
        }
        assert!(!examples.is_empty(), "`{}` has no example", below.get_bin_name().unwrap());
        push(text, format_args!("\n```console\n{examples}\n```\n"));
    }
}

/// Returns the text behind the options without its examples, and the examples.
fn split_examples(command: &Command) -> (String, String) {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (before, behind) = text.split_once("Examples:\n").unwrap_or((&text, ""));
    let (examples, after) = behind.split_once("\n\n").unwrap_or((behind, ""));
    let examples: Vec<_> = examples.lines().map(str::trim).collect();
    (format!("{before}{after}").trim().to_owned(), examples.join("\n"))
}

fn push_options<'a>(text: &mut String, options: impl Iterator<Item = &'a Arg>) {
    text.push_str("| option | |\n| --- | --- |\n");
    for option in options.filter(|option| !option.is_hide_set()) {
        let help = option.get_long_help().or(option.get_help()).unwrap().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "\\<");
        push(text, format_args!("| {} | {help}{} |\n", names(option), values(option)));
    }
}

fn names(option: &Arg) -> String {
    let takes_value = option.get_action().takes_values();
    let value = option.get_value_names().filter(|_| takes_value).map(|names| names[0].to_string());
    if option.is_positional() {
        return format!("`{}`", value.unwrap()).replace('|', "\\|");
    }
    let long = option.get_long().map(|long| match &value {
        Some(value) => format!("`--{long} {value}`"),
        None => format!("`--{long}`"),
    });
    let short = option.get_short().map(|short| format!("`-{short}`"));
    [short, long].into_iter().flatten().collect::<Vec<_>>().join(", ").replace('|', "\\|")
}

/// Returns the default of an option, and the values that it takes.
fn values(option: &Arg) -> String {
    let mut text = String::new();
    if !option.get_action().takes_values() {
        return text;
    }
    let possible: Vec<_> = option.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if !possible.is_empty() {
        push(&mut text, format_args!(" [{}]", possible.join(", ")));
    }
    for default in option.get_default_values() {
        push(&mut text, format_args!(" [default: {}]", default.to_string_lossy()));
    }
    text
}

/// `UPDATE_DOCS=1` writes the page.
#[test]
fn page_is_of_these_commands() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/cli.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == page, "docs/guide/cli.md is not what the commands say: run this test with UPDATE_DOCS=1");
}

/// Help of commands and of options fits a terminal, and no line of it begins in lower case.
#[test]
fn help_is_complete() {
    let mut command = Args::command();
    command.build();
    check_help(&command);
    command.debug_assert();
}

fn check_help(command: &Command) {
    let name = command.get_bin_name().unwrap_or_default();
    assert!(command.get_about().is_some(), "{name}");
    for option in command.get_arguments() {
        let help = option.get_help().unwrap_or_else(|| panic!("{name}: {option} has no help")).to_string();
        assert!(!help.starts_with(char::is_lowercase) && !help.ends_with('.'), "{name}: {option}: {help}");
    }
    command.get_subcommands().filter(|below| below.get_name() != "help").for_each(check_help);
}
