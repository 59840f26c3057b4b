//! Questions on a terminal.

use std::io::{self, BufRead, Write};

use crate::{failure::Failure, output::visible};

/// Asks on standard error, and returns the line that is typed, without the spaces around it.
pub(crate) fn ask(question: &str) -> Result<String, Failure> {
    let mut stderr = io::stderr();
    write!(stderr, "{} ", visible(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    if io::stdin().lock().read_line(&mut answer)? == 0 {
        return Err(Failure::new("the input ended before this question was answered; nothing was written"));
    }
    Ok(answer.trim().to_owned())
}
