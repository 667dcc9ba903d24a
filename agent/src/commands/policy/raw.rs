//! Decides about raw commands and scripts.

use super::{
    Decision, Denial, DirectProgram, Permissions, Permit, Raw, RawCommand, RawScript, Setting, denied, permit,
    rule_name, words,
};

/// The key that decides about all raw commands at once.
const RAW_KEY: &str = "permissions.raw";

impl Permissions {
    /// An action that is a raw command and did not come with what a rule could look at.
    pub(super) fn raw_action(&self) -> Decision {
        match self.raw_as_a_whole() {
            Some(decision) => decision,
            None => denied(RAW_KEY, "no rule can describe it"),
        }
    }

    pub(super) fn raw_command(&self, command: &RawCommand<'_>) -> Decision {
        if let Some(decision) = self.raw_as_a_whole() {
            return decision;
        }
        if let Some(shell) = command.shell {
            return denied(RAW_KEY, format!("under rules no shell is used, and the host asks for {shell:?}"));
        }
        check_variables(&command.setting)?;
        let line = words::split(command.line).or_else(|error| denied(RAW_KEY, error.to_string()))?;
        let Some((program, arguments)) = line.split_first() else { return denied(RAW_KEY, "the line is empty") };

        let rules = self.raw_rule.iter().zip(0..).filter(|(rule, _)| rule.is_about(program, arguments));
        let judged = rules.map(|(rule, at)| {
            let name = rule_name("raw_rule", at, rule.name.as_deref());
            match rule.objection(&command.setting) {
                Some(reason) => denied(name, reason),
                None => {
                    let direct = DirectProgram { program: rule.program.clone(), arguments: arguments.to_vec() };
                    Ok(Permit { rule: name, direct: Some(direct) })
                }
            }
        });
        first_permit(judged, || format!("no rule of permissions.raw_rule fits {program:?} with these arguments"))
    }

    pub(super) fn script(&self, script: &RawScript<'_>) -> Decision {
        if let Some(decision) = self.raw_as_a_whole() {
            return decision;
        }
        check_variables(&script.setting)?;
        let Some(sha256) = script.sha256 else {
            return denied(
                RAW_KEY,
                "under rules a script comes with its text; a file may change after it was looked at",
            );
        };
        let rules = self.script_rule.iter().zip(0..).filter(|(rule, _)| rule.is_about(&sha256));
        let judged = rules.map(|(rule, at)| {
            let name = rule_name("script_rule", at, rule.name.as_deref());
            match rule.objection(script.shell, &script.setting) {
                Some(reason) => denied(name, reason),
                None => Ok(permit(name)),
            }
        });
        first_permit(judged, || "no rule of permissions.script_rule lists the SHA-256 of this text".to_owned())
    }

    /// The decision where no rule has to be asked.
    fn raw_as_a_whole(&self) -> Option<Decision> {
        match self.raw {
            Raw::None => Some(denied(RAW_KEY, "raw commands and scripts do not run here")),
            Raw::All => Some(Ok(permit(RAW_KEY))),
            Raw::Rules => None,
        }
    }
}

/// A variable can change which code a program runs (`LD_PRELOAD`, `BASH_ENV`), so under rules there are none.
fn check_variables(setting: &Setting<'_>) -> Result<(), Denial> {
    if setting.has_variables { denied(RAW_KEY, "under rules the host sets no variables") } else { Ok(()) }
}

/// The first rule that permits, else the first objection, else that there is no rule.
fn first_permit(judged: impl Iterator<Item = Decision>, no_rule: impl FnOnce() -> String) -> Decision {
    let mut objection = None;
    for decision in judged {
        match decision {
            Ok(permit) => return Ok(permit),
            Err(denial) => objection = objection.or(Some(denial)),
        }
    }
    objection.map_or_else(|| denied(RAW_KEY, no_rule()), Err)
}
