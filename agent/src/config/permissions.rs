//! The section `[permissions]` among the layers: only the file has one.

use super::{Loaded, Origin};
use crate::commands::policy::Permissions;

/// The section that the policy is made of. It is read by itself, strictly: [`Permissions`].
pub(super) const PERMISSIONS: &str = "permissions";

impl Loaded {
    /// Takes the section of a file that has one. It begins at `section`.
    pub(super) fn take_permissions(
        &mut self,
        text: &str,
        section: usize,
        origin_at: impl Fn(usize) -> Origin,
        wrong: &mut Vec<String>,
    ) {
        let origin = origin_at(section);
        match Permissions::from_toml(text) {
            Ok(permissions) => {
                self.warnings.extend(permissions.idle_names().iter().map(|warning| format!("{origin}: {warning}")));
                self.config.permissions = Some(permissions);
                self.origins.insert(PERMISSIONS, origin);
            }
            Err(invalid) => {
                let place = invalid.offset.map_or(origin, origin_at);
                wrong.push(format!("{place}: {PERMISSIONS}: {}", invalid.reason));
            }
        }
    }

    /// The section as a file that could be used.
    pub(super) fn print_permissions(&self) -> String {
        match self.config.permissions.as_ref().map(Permissions::to_toml) {
            Some(Ok(section)) => format!("\n# permissions: {}\n{section}", self.origin(PERMISSIONS)),
            Some(Err(error)) => format!("\n# permissions cannot be shown: {error}\n"),
            None => "\n# [permissions] is not set: who has the secret may read, nothing else\n".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{ConfigError, Layers};

    fn load(text: &str) -> Result<Loaded, ConfigError> {
        Loaded::from_layers(&Layers { file: Some((Path::new("/c.toml"), text)), ..Layers::default() })
    }

    const EVERYTHING: &str = r#"
vm_id = "a"
[permissions]
reads = ["User*", "OsInfo"]
changes = ["ServiceControl"]
raw = "rules"
protected_services = ["dbus", "systemd-*"]
protected_packages = ["sudo", "linux-image-*"]
protected_processes = "postgres*"
[[permissions.allow]]
name = "tools \"and\" more"
action = ["PackageInstall", "PackageUpdate"]
package = ["htop", "g++"]
[[permissions.deny]]
user = "root"
service = "ssh*"
[[permissions.raw_rule]]
name = "status"
program = "/usr/bin/systemctl"
arguments = ["status", '[a-z@.\-]+']
run_as = ["root", "nobody"]
working_dir = ["/", "/srv"]
[[permissions.script_rule]]
sha256 = ["E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"]
shell = "bash"
"#;

    #[test]
    fn the_section_is_printed_as_it_can_be_read_back() {
        for text in
            [EVERYTHING, "[permissions]\n", "permissions.changes = \"all\"\n", "permissions = { raw = \"all\" }"]
        {
            let loaded = load(text).unwrap();
            let printed = loaded.print();
            let again = load(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(again.config, loaded.config, "{printed}");
            assert!(loaded.config.permissions.is_some());
        }
        assert!(load(EVERYTHING).unwrap().print().contains("# permissions: /c.toml:3\n"));
        let printed = load("").unwrap().print();
        assert!(printed.contains("[permissions] is not set"), "{printed}");
        assert_eq!(load(&printed).unwrap().config.permissions, None);
    }

    #[test]
    fn a_mistake_in_the_section_refuses_the_configuration_and_names_its_line() {
        for (text, parts) in [
            ("[permissions]\nread = \"all\"\n", ["/c.toml:2: permissions:", "`read`"]),
            ("[permissions]\nreads = \"al\"\n", ["/c.toml:2:", "\"al\" is neither"]),
            ("[permissions]\nreads = 5\n", ["/c.toml:2:", "text in quotes or a list"]),
            ("[permissions]\nchanges = [\n\"A\",\n\"[b]\"]\n", ["/c.toml:2:", "\"[b]\" is no pattern"]),
            ("[permissions]\nraw = \"some\"\n", ["/c.toml:2:", "`none`, `all`"]),
            ("[permissions]\nraw = \"rules\"\n", ["/c.toml:1:", "needs a [[permissions.raw_rule]]"]),
            ("[[permissions.raw_rule]]\nprogram = \"/bin/id\"\n", ["/c.toml:1:", "count with raw = \"rules\" only"]),
            ("[permissions]\n[[permissions.deny]]\nacton = \"A\"\n", ["/c.toml:3:", "`acton`"]),
            ("[permissions]\n[[permissions.deny]]\n", ["/c.toml:1:", "deny[0] needs at least one of"]),
            ("[permissions]\n[[permissions.allow]]\nname = \"all\"\n", ["/c.toml:1:", "allow[0] needs at least one"]),
            (
                "[permissions]\n[[permissions.allow]]\naction = \"OsInfo\"\nuser = \"ada\"\n",
                ["/c.toml:1:", "allow[0].user permits nothing"],
            ),
            ("[permissions]\n[[permissions.deny]]\nservice = []\n", ["/c.toml:3:", "the list is empty"]),
            (
                "[[permissions.deny]]\naction = \"PackageRemov\"\n",
                ["/c.toml:1:", "no action is called \"PackageRemov\""],
            ),
            ("[[permissions.raw_rule]]\nprogram = \"ls\"\n", ["/c.toml:2:", "not an absolute path"]),
            ("[[permissions.raw_rule]]\nprogram = \"/bin/../bin/ls\"\n", ["/c.toml:2:", "not an absolute path"]),
            ("[[permissions.raw_rule]]\narguments = []\n", ["/c.toml:1:", "missing field `program`"]),
            ("[[permissions.raw_rule]]\nprogram = \"/a\"\narguments = [\"a)|(b\"]\n", ["/c.toml:3:", "is no pattern"]),
            ("[[permissions.script_rule]]\nshell = \"sh\"\nsha256 = [\"12\"]\n", ["/c.toml:3:", "is not a SHA-256"]),
            ("[[permissions.script_rule]]\nsha256 = []\n", ["/c.toml:1:", "missing field `shell`"]),
            ("permissions = \"all\"\n", ["/c.toml:1: permissions:", "Permissions"]),
            ("[[permissions]]\nraw = \"all\"\n", ["/c.toml:1: permissions:", ""]),
        ] {
            let error = load(text).map(|loaded| loaded.config.permissions).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part:?} is not in {error:?} about:\n{text}");
            }
        }
    }

    #[test]
    fn a_section_of_another_name_is_warned_of_and_permits_nothing() {
        for (text, name) in [
            ("[permission]\nraw = \"all\"\n", "permission.raw"),
            ("[Permissions]\nraw = \"all\"\n", "Permissions.raw"),
            ("\"permissions.raw\" = \"all\"\n", "permissions.raw"),
        ] {
            let loaded = load(text).unwrap();
            assert_eq!(loaded.config.permissions, None);
            assert!(loaded.warnings[0].contains(name), "{:?}", loaded.warnings);
        }
    }

    #[test]
    fn a_name_that_permits_nothing_is_warned_of() {
        let text = "[permissions]\nchanges = [\"PackageInstal\", \"ProcessKill\"]\n\
                    [[permissions.allow]]\naction = \"ExecutePowerShellScript\"\n";
        let warnings = load(text).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("/c.toml:1: permissions.changes:") && warnings[0].contains("PackageInstal"));
        assert!(warnings[1].contains("allow[0].action") && warnings[1].contains("ExecutePowerShellScript"));
    }
}
