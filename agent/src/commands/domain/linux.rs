//! Joining with realmd, realm(8), which knows Active Directory and FreeIPA.

use super::{JoinDomain, Joined};
use crate::collector::linux::Roots;
use crate::commands::outcome::{CommandError, Outcome};
use crate::commands::process_runner::{Ending, Finished, Program, Stdin};
use crate::commands::tools;
use crate::identity::linux::machine_facts;

/// What a computer's account is called at most, without the `$` (`sAMAccountName` as NetBIOS has room for it).
const LONGEST_NAME: usize = 15;

/// The program that joins. Where its standard input is no terminal it reads the password there, a line.
pub fn program(roots: &Roots, command: &JoinDomain) -> Result<Program, CommandError> {
    let Some(path) = tools::installed(roots, "realm") else {
        let sentence =
            "realm is not installed; install the package realmd, and sssd and adcli with it, and send this again";
        return Err(CommandError::failed(sentence));
    };
    let mut arguments = vec!["join".to_owned(), "--unattended".to_owned(), format!("--user={}", command.username)];
    arguments.extend(command.ou.as_ref().map(|unit| format!("--computer-ou={unit}")));
    arguments.extend(command.computer_name.as_ref().map(|name| format!("--computer-name={name}")));
    arguments.extend(["--".to_owned(), command.domain.to_string()]);
    Ok(Program { stdin: Stdin::Bytes(command.password.line()), ..Program::new(path, arguments) })
}

/// What came of the program.
pub fn outcome(finished: Finished) -> Outcome {
    let error = match finished.ending {
        Ending::Exit(0) | Ending::Stopped(_) | Ending::OutOfMemory => None,
        Ending::Exit(_) | Ending::Signal(_) => Some(tools::complaint("realm", &finished)),
    };
    let outcome = Outcome::from(Ok(finished));
    Outcome { error: error.or(outcome.error), ..outcome }
}

/// What the machine is now. realmd starts and stops the services that are concerned, so nothing waits for a restart.
pub fn joined(roots: &Roots, command: &JoinDomain) -> Joined {
    let given = command.computer_name.as_ref().map(ToString::to_string);
    Joined {
        domain: command.domain.to_string(),
        computer_name: given.unwrap_or_else(|| own_name(roots)),
        restart_required: false,
    }
}

/// The name that adcli gives an account where nobody says another: the host name up to its first dot, in capitals, cut to size.
fn own_name(roots: &Roots) -> String {
    let hostname = machine_facts(roots).hostname.unwrap_or_else(|| "unknown".to_owned());
    let mut name = hostname.split('.').next().unwrap_or_default().to_ascii_uppercase();
    name.truncate(name.floor_char_boundary(LONGEST_NAME));
    name
}
