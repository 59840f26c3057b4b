//! `completions` and `man`: what a shell and `man` read of the commands.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use clap_complete::Shell;

use crate::{
    failure::Failure,
    files::{self, Existing},
    output,
};

#[derive(ClapArgs)]
#[command(after_help = "\
Where the script goes:
  bash        ~/.local/share/bash-completion/completions/fastauth
  zsh         a file _fastauth in a directory of $fpath, such as ~/.local/share/zsh/site-functions
  fish        ~/.config/fish/completions/fastauth.fish
  powershell  the end of the file that $PROFILE names
  elvish      the end of ~/.config/elvish/rc.elv

--install writes it there for bash, zsh and fish, and says if anything else is to be done.

Examples:
  fastauth completions bash --install
  fastauth completions zsh > _fastauth")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
    /// Write the script to where the shell looks for it, instead of printing it: bash, zsh, fish
    #[arg(long)]
    install: bool,
}

#[derive(ClapArgs)]
#[command(after_help = "\
For your own user, the pages go to ~/.local/share/man/man1; for all users, to /usr/local/share/man/man1.

Examples:
  fastauth man ~/.local/share/man/man1
  fastauth man > fastauth.1")]
pub(crate) struct Man {
    /// The directory to write a page for every command to; it is created if it does not exist [default: print the page fastauth(1)]
    directory: Option<PathBuf>,
}

pub(crate) fn completions(args: &Completions, mut program: clap::Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "fastauth", &mut script);
    let script = String::from_utf8(script)?;
    if !args.install {
        output::verbatim(&script)?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = Place::of(args.shell)?;
    create_directory(place.directory())?;
    files::write(&place.path, &script, Existing::Replace)?;
    output::note(&format!("Wrote {}. {}", place.path.display(), place.remark));
    Ok(ExitCode::SUCCESS)
}

/// Where a shell looks for completion scripts of the user.
struct Place {
    path: PathBuf,
    remark: &'static str,
}

impl Place {
    fn of(shell: Shell) -> Result<Self, Failure> {
        let data = || directory("XDG_DATA_HOME", ".local/share");
        let place = match shell {
            Shell::Bash => Self {
                path: data()?.join("bash-completion/completions/fastauth"),
                remark: "New shells complete `fastauth` if the package bash-completion is installed",
            },
            Shell::Zsh => Self {
                path: data()?.join("zsh/site-functions/_fastauth"),
                remark: "If this is not in ~/.zshrc before compinit yet, add it: fpath+=(~/.local/share/zsh/site-functions)",
            },
            Shell::Fish => Self {
                path: directory("XDG_CONFIG_HOME", ".config")?.join("fish/completions/fastauth.fish"),
                remark: "New shells complete `fastauth`",
            },
            other => {
                return Err(Failure::new(format!(
                    "--install knows bash, zsh and fish; for {other}, `fastauth completions --help` says where the script goes"
                )));
            }
        };
        Ok(place)
    }

    fn directory(&self) -> &Path {
        fastauth_config::directory_of(&self.path)
    }
}

/// Returns the directory that a variable names, or the one in the home directory.
fn directory(variable: &str, in_home: &str) -> Result<PathBuf, Failure> {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    match named.or_else(|| env::home_dir().filter(|home| home.is_absolute()).map(|home| home.join(in_home))) {
        Some(directory) => Ok(directory),
        None => Err(Failure::new(format!("there is no home directory: set HOME or {variable}"))),
    }
}

pub(crate) fn man(args: &Man, program: clap::Command) -> Result<ExitCode, Failure> {
    let command = program.disable_help_subcommand(true);
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        output::verbatim(&String::from_utf8(page)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    create_directory(directory)?;
    clap_mangen::generate_to(command, directory)
        .map_err(|error| Failure::new(format!("{}: cannot be written: {error}", directory.display())))?;
    output::note(&format!("Wrote the pages to {}. To read one: man -l {0}/fastauth.1", directory.display()));
    Ok(ExitCode::SUCCESS)
}

fn create_directory(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory)
        .map_err(|error| Failure::new(format!("{}: cannot be created: {error}", directory.display())))
}
