//! Raw commands and scripts under rules.

use super::*;
use crate::commands::policy::words::{NotPlain, split};

const RULES: &str = r#"
raw = "rules"
[[permissions.raw_rule]]
name = "unit status"
program = "/usr/bin/systemctl"
arguments = ["status", '[a-z][a-z0-9@.-]*']
[[permissions.raw_rule]]
program = "/usr/bin/id"
run_as = ["nobody", "backup"]
working_dir = ["/srv", "/"]
[[permissions.raw_rule]]
name = "as root, too"
program = "/usr/bin/whoami"
run_as = ["root", "nobody"]
[[permissions.raw_rule]]
program = "/usr/bin/echo"
arguments = [".*"]
[[permissions.raw_rule]]
program = "/usr/bin/choice"
arguments = ["a|b", "(?i)yes"]
[[permissions.script_rule]]
name = "first boot"
sha256 = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
shell = "bash"
[[permissions.script_rule]]
sha256 = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
shell = "powershell"
run_as = ["nobody"]
"#;

fn raw(line: &str) -> Decision {
    policy(RULES).decide(&Request::Raw(RawCommand { line, ..RawCommand::default() }))
}

#[test]
fn a_line_that_a_rule_describes_is_run_directly() {
    for (line, rule, arguments) in [
        ("/usr/bin/systemctl status nginx", "permissions.raw_rule[0] \"unit status\"", &["status", "nginx"][..]),
        (
            " /usr/bin/systemctl  'status' \"getty@tty1.service\" ",
            "permissions.raw_rule[0] \"unit status\"",
            &["status", "getty@tty1.service"],
        ),
        ("/usr/bin/whoami", "permissions.raw_rule[2] \"as root, too\"", &[]),
        ("/usr/bin/echo '; rm -rf $HOME'", "permissions.raw_rule[3]", &["; rm -rf $HOME"]),
        ("/usr/bin/echo ''", "permissions.raw_rule[3]", &[""]),
        ("/usr/bin/choice b YES", "permissions.raw_rule[4]", &["b", "YES"]),
    ] {
        let permit = raw(line).unwrap_or_else(|denial| panic!("{line}: {denial}"));
        let direct = permit.direct.unwrap_or_else(|| panic!("{line} goes to a shell"));
        assert_eq!(permit.rule, rule, "{line}");
        assert_eq!(direct.program.as_str(), line.split_whitespace().next().unwrap());
        assert_eq!(direct.arguments, arguments, "{line}");
    }
}

#[test]
fn patterns_are_for_whole_arguments_and_every_argument_has_one() {
    for line in [
        "/usr/bin/systemctl",
        "/usr/bin/systemctl status",
        "/usr/bin/systemctl status nginx mysql",
        "/usr/bin/systemctl status ''",
        "/usr/bin/systemctl status -H",
        "/usr/bin/systemctl status --host=evil",
        "/usr/bin/systemctl status nginx/../x",
        "/usr/bin/systemctl status Nginx",
        "/usr/bin/systemctl status 'nginx '",
        "/usr/bin/systemctl stop nginx",
        "/usr/bin/systemctl statusx nginx",
        "/usr/bin/systemctl xstatus nginx",
        "/usr/bin/systemctl --no-pager status nginx",
        "/usr/bin/systemctl2 status nginx",
        "/usr/bin/choice ab yes",
        "/usr/bin/choice a yesyes",
        "/usr/bin/whoami --version",
        "/usr/bin/echo",
        "/usr/bin/echo a b",
    ] {
        let denial = raw(line).expect_err(line);
        assert_eq!(denial.rule, "permissions.raw", "{line}: {denial}");
        assert!(denial.reason.contains("no rule of permissions.raw_rule fits"), "{line}: {denial}");
    }
}

#[test]
fn only_the_programs_absolute_path_names_it() {
    for program in [
        "systemctl",
        "./systemctl",
        "usr/bin/systemctl",
        "/bin/systemctl",
        "//usr/bin/systemctl",
        "/usr//bin/systemctl",
        "/usr/bin/../bin/systemctl",
        "/usr/./bin/systemctl",
        "/usr/bin/systemctl/",
        "/USR/BIN/SYSTEMCTL",
        "/usr/bin/systemctl\u{200b}",
        "/usr/bin/syst\u{0435}mctl",
        "\u{ff0f}usr/bin/systemctl",
        "~/systemctl",
        "sudo /usr/bin/systemctl",
        "exec /usr/bin/systemctl",
        "! /usr/bin/systemctl",
        "env /usr/bin/systemctl",
        "command /usr/bin/systemctl",
        "''/usr/bin/systemctl/../id",
    ] {
        let line = format!("{program} status nginx");
        assert_eq!(raw(&line).expect_err(&line).rule, "permissions.raw", "{line}");
    }
}

/// Lines that mean more to a shell than their words: none runs, though the rule for echo takes any argument.
#[test]
fn lines_with_shell_syntax_are_refused() {
    let lines = [
        "/usr/bin/echo a; id",
        "/usr/bin/echo a;id",
        ";/usr/bin/echo a",
        "/usr/bin/echo a ;",
        "/usr/bin/echo a && id",
        "/usr/bin/echo a || id",
        "/usr/bin/echo a & id",
        "/usr/bin/echo a &",
        "/usr/bin/echo a | sh",
        "/usr/bin/echo a |& sh",
        "/usr/bin/echo a|sh",
        "/usr/bin/echo a > /etc/passwd",
        "/usr/bin/echo a >/etc/passwd",
        "/usr/bin/echo a>>/etc/passwd",
        "/usr/bin/echo a 2>&1",
        "/usr/bin/echo < /etc/shadow",
        "/usr/bin/echo <<< a",
        "/usr/bin/echo <(id)",
        "/usr/bin/echo >(id)",
        "/usr/bin/echo $(id)",
        "/usr/bin/echo \"$(id)\"",
        "/usr/bin/echo `id`",
        "/usr/bin/echo \"`id`\"",
        "/usr/bin/echo $HOME",
        "/usr/bin/echo ${HOME}",
        "/usr/bin/echo \"$HOME\"",
        "/usr/bin/echo \"${IFS}\"",
        "/usr/bin/echo a$IFS",
        "/usr/bin/echo $'a'",
        "/usr/bin/echo $\"a\"",
        "/usr/bin/echo $((1))",
        "/usr/bin/echo \"\\\\$HOME\"",
        "/usr/bin/echo '\\'$HOME''",
        "/usr/bin/echo *",
        "/usr/bin/echo /etc/*",
        "/usr/bin/echo ?",
        "/usr/bin/echo a?c",
        "/usr/bin/echo [ab]",
        "/usr/bin/echo a]",
        "/usr/bin/echo {a,b}",
        "/usr/bin/echo {1..9}",
        "/usr/bin/echo }",
        "/usr/bin/echo ~",
        "/usr/bin/echo ~root",
        "/usr/bin/echo ~/x",
        "/usr/bin/echo a=~",
        "/usr/bin/echo --home=~root",
        "/usr/bin/echo a:~",
        "/usr/bin/echo #a",
        "#/usr/bin/echo a",
        "/usr/bin/echo a #",
        "A=b /usr/bin/echo a",
        "PATH=/tmp /usr/bin/echo a",
        "LD_PRELOAD=/tmp/x.so /usr/bin/echo a",
        "A= /usr/bin/echo a",
        "A+=b /usr/bin/echo a",
        "(/usr/bin/echo a)",
        "{ /usr/bin/echo a; }",
        "! (/usr/bin/echo a)",
        "/usr/bin/echo (a)",
        "/usr/bin/echo a\n",
        "/usr/bin/echo a\nid",
        "/usr/bin/echo 'a\nid'",
        "/usr/bin/echo \"a\nid\"",
        "/usr/bin/echo \\\na",
        "/usr/bin/echo a\rid",
        "/usr/bin/echo a\r\n",
        "/usr/bin/echo a\0b",
        "/usr/bin/echo 'a\0b'",
        "/usr/bin/echo a\u{1b}[2J",
        "/usr/bin/echo a\u{b}b",
        "/usr/bin/echo a\u{c}b",
        "/usr/bin/echo a\u{85}b",
        "/usr/bin/echo a\u{7f}",
        "/usr/bin/echo 'a",
        "/usr/bin/echo a'",
        "/usr/bin/echo \"a",
        "/usr/bin/echo \"a\\\"",
        "/usr/bin/echo a\\",
        "/usr/bin/echo \"a\\",
        "/usr/bin/echo 'a\"",
        "",
        " ",
        "\t",
        "/usr/bin/echo\u{a0}a",
        "/usr/bin/echo=a b",
    ];
    for line in lines {
        let denial = raw(line).expect_err(line);
        assert_eq!(denial.rule, "permissions.raw", "{line:?}: {denial}");
    }
    // Most are refused by the splitter itself, before any rule is asked; two are plain words that are no program.
    let plain: Vec<_> = lines.into_iter().filter(|line| split(line).is_ok()).collect();
    assert_eq!(plain, ["/usr/bin/echo\u{a0}a"]);
    assert!(lines.len() > 60, "{}", lines.len());
    assert_eq!(split("A=b /usr/bin/echo"), Err(NotPlain::Assignment));
}

#[test]
fn a_line_may_hold_what_is_quoted() {
    for (line, argument) in [
        (r"/usr/bin/echo 'a;b&c|d<e>f(g)h$i`j*k?l[m]n{o}~#='", "a;b&c|d<e>f(g)h$i`j*k?l[m]n{o}~#="),
        (r#"/usr/bin/echo "a;b&c|d<e>f(g)h*k?l[m]n{o}~#=""#, "a;b&c|d<e>f(g)h*k?l[m]n{o}~#="),
        (r"/usr/bin/echo \;\&\|\<\>\(\)\$\`\*\?\[\]\{\}\~\#", ";&|<>()$`*?[]{}~#"),
        (r#"/usr/bin/echo "\$HOME \`id\` \"x\" \\""#, r#"$HOME `id` "x" \"#),
    ] {
        let permit = raw(line).unwrap_or_else(|denial| panic!("{line}: {denial}"));
        assert_eq!(permit.direct.unwrap().arguments, [argument], "{line}");
    }
}

#[test]
fn shells_and_variables_are_refused_under_rules() {
    let status = "/usr/bin/systemctl status nginx";
    check(
        &policy(RULES),
        &[
            (&format!(r#"{{"raw_command":"{status}"}}"#), "+ permissions.raw_rule[0] \"unit status\""),
            (&format!(r#"{{"raw_command":"{status}","shell":"sh"}}"#), "- permissions.raw"),
            (&format!(r#"{{"raw_command":"{status}","shell":""}}"#), "- permissions.raw"),
            (&format!(r#"{{"raw_command":"{status}","shell":null}}"#), "+ permissions.raw_rule[0] \"unit status\""),
            (&format!(r#"{{"raw_command":"{status}","env_vars":{{"PATH":"/tmp"}}}}"#), "- permissions.raw"),
            (&format!(r#"{{"raw_command":"{status}","env_vars":{{}}}}"#), "+ permissions.raw_rule[0] \"unit status\""),
        ],
    );
}

#[test]
fn users_and_directories_must_be_listed() {
    let decide = |line, run_as, working_dir| {
        let setting = Setting { run_as, working_dir, has_variables: false };
        said(&policy(RULES).decide(&Request::Raw(RawCommand { line, shell: None, setting })))
    };
    let (status, id, whoami) = ("/usr/bin/systemctl status nginx", "/usr/bin/id", "/usr/bin/whoami");
    let (first, second) = ("permissions.raw_rule[0] \"unit status\"", "permissions.raw_rule[1]");
    for (line, run_as, working_dir, expected) in [
        (status, Some("root"), None, format!("- {first}")),
        (status, Some("nobody"), None, format!("- {first}")),
        (status, Some(""), None, format!("- {first}")),
        (status, None, Some("/"), format!("- {first}")),
        (status, None, Some("/tmp"), format!("- {first}")),
        // A rule that says who does not mean root beside them.
        (id, None, None, format!("- {second}")),
        (id, Some("root"), None, format!("- {second}")),
        (id, Some("nobody"), None, format!("+ {second}")),
        (id, Some("nobody2"), None, format!("- {second}")),
        (id, Some("backup"), Some("/srv"), format!("+ {second}")),
        (id, Some("backup"), Some("/srv/"), format!("- {second}")),
        (id, Some("backup"), Some("/srv/../etc"), format!("- {second}")),
        (whoami, None, None, "+ permissions.raw_rule[2] \"as root, too\"".to_owned()),
        (whoami, Some("root"), None, "+ permissions.raw_rule[2] \"as root, too\"".to_owned()),
    ] {
        assert_eq!(decide(line, run_as, working_dir), expected, "{line} as {run_as:?} in {working_dir:?}");
    }
}

#[test]
fn a_later_rule_may_permit_what_an_earlier_one_objects_to() {
    let section = "raw = \"rules\"\n[[permissions.raw_rule]]\nprogram = \"/bin/id\"\n\
                   [[permissions.raw_rule]]\nprogram = \"/bin/id\"\nrun_as = [\"nobody\"]\n";
    let asked = r#"{"raw_command":"/bin/id","run_as":"nobody"}"#;
    assert_eq!(ask(&policy(section), asked), "+ permissions.raw_rule[1]");
}

/// The rules have the SHA-256 of nothing.
#[test]
fn a_script_runs_by_its_hash_in_the_rules_shell() {
    let script = |fields: &str| {
        ask(
            &policy(RULES),
            &format!(r#"{{"type":"pending_scripts_response","scripts":[{{"execution_id":"e",{fields}}}]}}"#),
        )
    };
    for (fields, expected) in [
        (r#""script_content":"","shell":"BASH""#, "+ permissions.script_rule[0] \"first boot\""),
        (r#""script_content":"id","shell":"bash""#, "- permissions.raw"),
        (r#""script_content":"","shell":"zsh""#, "- permissions.script_rule[0] \"first boot\""),
        // Without a name the shell is sh.
        (r#""script_content":"""#, "- permissions.script_rule[0] \"first boot\""),
        (r#""script_content":" ","shell":"bash""#, "- permissions.raw"),
        (r#""script_content":"","shell":"bash","run_as":"root""#, "- permissions.script_rule[0] \"first boot\""),
        (r#""script_content":"","shell":"bash","input_values":{"A":"b"}"#, "- permissions.raw"),
        (r#""script_content":"","shell":"bash","input_values":{}"#, "+ permissions.script_rule[0] \"first boot\""),
        (r#""script_content":"","shell":"PowerShell","run_as":"nobody""#, "+ permissions.script_rule[1]"),
    ] {
        assert_eq!(script(fields), expected, "{fields}");
    }
}

#[test]
fn the_script_of_an_action_is_judged_like_a_script() {
    let section = "raw = \"rules\"\n[[permissions.script_rule]]\nshell = \"powershell\"\nsha256 = [\
                   \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n";
    let nobody = format!("{section}run_as = [\"nobody\"]\n");
    for (section, fields, expected) in [
        (section, r#""script":"""#, "+ permissions.script_rule[0]"),
        (section, r#""script":"id""#, "- permissions.raw"),
        (section, r#""script":"","environment_vars":{"A":"b"}"#, "- permissions.raw"),
        (section, r#""script":"","environment_vars":{}"#, "+ permissions.script_rule[0]"),
        (section, r#""script":"","working_directory":"/tmp""#, "- permissions.script_rule[0]"),
        // What a file holds when it is run nobody has judged.
        (section, r#""script":"/srv/a.ps1","script_type":"file""#, "- permissions.raw"),
        (section, r#""script":"","run_as_admin":false"#, "- permissions.script_rule[0]"),
        (&nobody, r#""script":"","run_as_admin":false"#, "+ permissions.script_rule[0]"),
        (&nobody, r#""script":"""#, "- permissions.script_rule[0]"),
    ] {
        let mut command =
            serde_json::json!({ "action": "ExecutePowerShellScript", "script_type": "inline", "run_as_admin": true });
        let fields: serde_json::Value = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
        command.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(ask(&policy(section), &command.to_string()), expected, "{command}");
    }
}

#[test]
fn every_script_of_a_message_is_judged_by_itself() {
    let scripts = r#"{"type":"pending_scripts_response","scripts":[
        {"execution_id":"1","script_content":"","shell":"bash"},{"execution_id":"2","script_content":"id","shell":"bash"}]}"#;
    assert_eq!(ask(&policy(RULES), scripts), "+ permissions.script_rule[0] \"first boot\", - permissions.raw");
}

#[test]
fn with_all_a_raw_command_runs_as_it_was_asked_for() {
    let everything = policy("raw = \"all\"\n");
    let line = "echo $HOME | sh";
    let setting = Setting { working_dir: Some("/tmp"), has_variables: true, run_as: Some("nobody") };
    let permit = everything.decide(&Request::Raw(RawCommand { line, shell: Some("bash"), setting })).unwrap();
    assert_eq!((permit.rule.as_str(), permit.direct), ("permissions.raw", None));
}

#[test]
fn patterns_cannot_leave_their_argument_and_have_a_bound() {
    let pattern = |text: &str| Pattern::try_from(text.to_owned());
    for text in ["a)|(b", "(", "[", "a{1000}{1000}{1000}", "\\1", "(?=a)", "*"] {
        assert!(pattern(text).is_err(), "{text:?} was taken");
    }
    for (text, fits, others) in [
        ("a|b", &["a", "b"][..], &["ab", "xa", "bx", "a\n", "\na"][..]),
        ("(?m)^a$", &["a"], &["a\n", "a\nb", "b\na"]),
        ("^a$", &["a"], &["a\n"]),
        ("a*", &["", "aaa"], &["b", "ab"]),
        ("(?x) a b", &["ab"], &["a b"]),
        ("", &[""], &["a"]),
        (".", &["ü"], &["", "\n", "ab"]),
    ] {
        let pattern = pattern(text).unwrap();
        assert!(fits.iter().all(|argument| pattern.matches(argument)), "{text:?} does not take all of {fits:?}");
        assert!(!others.iter().any(|argument| pattern.matches(argument)), "{text:?} takes one of {others:?}");
    }
    // Takes for ever where every way is tried.
    assert!(!pattern("(a*)*(a|aa)*b").unwrap().matches(&"a".repeat(8000)));
}
