//! What the program says of itself: help, completions, manual pages, and the page of its commands.

use std::fs;

use serde_json::Value;

use super::{Place, stderr, stdout};

/// The commands in `docs/guide/cli.md`, whose text comes from the commands themselves.
fn examples() -> Vec<String> {
    let page = include_str!("../../../../docs/guide/cli.md");
    let blocks = page.split("```console\n").skip(2).map(|block| block.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[cfg(unix)]
#[test]
fn every_example_works() {
    let place = Place::new();
    let home = place.path().join("home");
    fs::create_dir_all(home.join("shared")).unwrap();
    fs::create_dir(place.path().join("shared")).unwrap();
    let document = r#"{"openapi":"3.1.0","paths":{"/auth/token/refresh":{"post":{}}}}"#;
    fs::write(place.path().join("openapi.json"), document).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_fastauth")).parent().unwrap();
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.display());
    let mut count = 0;
    // Those of other tests: they need a server.
    let others = ["fastauth store serve", "fastauth store test"];
    for example in examples().iter().filter(|example| !others.iter().any(|other| example.contains(other))) {
        let issued = place.run(&["token", "new", "--client-id", "example", "--quiet"]);
        let issued: Value = serde_json::from_slice(&issued.stdout).unwrap_or_default();
        let keys = place.run(&["keys", "list", "--json"]);
        let keys: Value = serde_json::from_slice(&keys.stdout).unwrap_or_default();
        let kid = keys["keys"].as_array().and_then(|keys| keys.last()).and_then(|key| key["kid"].as_str());
        let mut command = std::process::Command::new("sh");
        command.args(["-c", example]).current_dir(place.path()).env_clear().stdin(std::process::Stdio::null());
        command.env("PATH", &path).env("HOME", &home).env("KID", kid.unwrap_or_default());
        for (variable, name) in [("ACCESS_TOKEN", "access_token"), ("REFRESH_TOKEN", "refresh_token")] {
            command.env(variable, issued[name].as_str().unwrap_or_default());
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{example}: {}{}", stdout(&output), stderr(&output));
        count += 1;
    }
    assert!(count > 30, "{count}");
}

#[test]
fn completions_are_installed_where_shells_look() {
    let place = Place::new();
    for (shell, file) in [
        ("bash", "share/bash-completion/completions/fastauth"),
        ("zsh", "share/zsh/site-functions/_fastauth"),
        ("fish", "config/fish/completions/fastauth.fish"),
    ] {
        let mut command = place.command(&["completions", shell, "--install"]);
        let output = command
            .env("XDG_DATA_HOME", place.path().join("share"))
            .env("XDG_CONFIG_HOME", place.path().join("config"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains(file), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(place.path().join(file)).unwrap(), place.done(&["completions", shell]));
    }
    let refusal = place.fails(&["completions", "elvish", "--install"], 1);
    assert!(refusal.contains("`fastauth completions --help` says where the script goes"), "{refusal}");
}

#[test]
fn manual_has_a_page_for_each_command() {
    let place = Place::new();
    place.done(&["man", "pages/man1"]);
    for name in ["fastauth", "fastauth-init", "fastauth-token-new", "fastauth-store-serve"] {
        let page = fs::read_to_string(place.path().join("pages/man1").join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    assert!(place.done(&["man"]).contains("Manage the keys"));
}

#[test]
fn quiet_leaves_results_and_errors() {
    let place = Place::new();
    let output = place.run(&["init", "--yes", "--quiet"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let output = place.run(&["-q", "token", "new"]);
    assert!(stdout(&output).contains("access_token") && stderr(&output).is_empty(), "{}", stderr(&output));
    assert!(place.fails(&["init", "--yes", "-q"], 1).contains("already exists"));
}

#[test]
fn verbose_logs_more() {
    let place = Place::new();
    place.done(&["init", "--yes"]);
    let logged = |words: &[&str]| stderr(&place.run(words));
    place.done(&["token", "new", "--client-id", "alice"]);
    let revoke = ["token", "revoke", "--client-id", "alice"];
    assert!(!logged(&revoke).contains("INFO"));
    assert!(logged(&[&["-v"], &revoke[..]].concat()).contains("INFO"), "{}", logged(&[&["-v"], &revoke[..]].concat()));
}

#[test]
fn colour_is_used_where_it_is_wanted() {
    let place = Place::new();
    let colours = |words: &[&str], no_color: bool| {
        let mut command = place.command(words);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let output = command.output().unwrap();
        stdout(&output).contains("\u{1b}[")
    };
    // There is no configuration: a fault.
    assert!(!colours(&["check"], false));
    assert!(colours(&["check", "--color", "always"], false));
    assert!(colours(&["--color=always", "check"], true));
    assert!(!colours(&["--color=never", "check"], false));
    assert!(!colours(&["--color=always", "check", "--json"], false));
    assert!(colours(&["--color=always", "--help"], false));
    place.fails(&["--color=sometimes", "check"], 2);
}
