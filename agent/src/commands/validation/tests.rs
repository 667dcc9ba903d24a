pub(crate) mod malicious;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};

use super::*;
use crate::commands::package_management::SearchWords;
use malicious::*;

/// Tries a type with what no type may hold and with its own; gives how many were tried.
fn try_type<T: DeserializeOwned + fmt::Debug>(malicious: &[(Layer, &str)], longest: usize) -> usize {
    let parse = |text: &str| from_value::<T>(json!(text));
    let too_long = "a".repeat(longest + 1);
    let own = malicious
        .iter()
        .copied()
        .chain(NEVER.map(|text| (Layer::Type, text)))
        .chain([(Layer::Type, too_long.as_str())]);
    let mut tried = BTreeSet::new();
    for (layer, text) in own {
        assert!(tried.insert(text), "{text:?} stands twice");
        let refused = parse(text);
        assert_eq!(refused.is_err(), layer == Layer::Type, "{text:?} of {layer:?}: {refused:?}");
        if let Err(error) = refused {
            assert!(error.to_string().len() < 400, "{error}");
        }
    }
    for value in [json!(null), json!(7), json!(true), json!(["x"]), json!({ "x": "y" })] {
        assert!(from_value::<T>(value.clone()).is_err(), "{value}");
    }
    tried.len()
}

#[test]
fn malicious_parameters_are_refused_before_anything_starts() {
    let tried = [
        ("service", try_type::<ServiceName>(SERVICES, 247), SERVICES.len()),
        ("package", try_type::<PackageName>(PACKAGES, 200), PACKAGES.len()),
        ("user", try_type::<UserName>(USERS, 64), USERS.len()),
        ("principal", try_type::<PrincipalName>(PRINCIPALS, 64), PRINCIPALS.len()),
        ("domain", try_type::<DomainName>(DOMAINS, 63), DOMAINS.len()),
        ("computer", try_type::<ComputerName>(COMPUTERS, 15), COMPUTERS.len()),
        ("unit", try_type::<OrganizationalUnit>(UNITS, 1024), UNITS.len()),
        ("mount point", try_type::<MountPoint>(MOUNT_POINTS, 4095), MOUNT_POINTS.len()),
        ("path", try_type::<FilePath>(MOUNT_POINTS, 4095), 0),
        ("variable", try_type::<EnvironmentName>(VARIABLES, 255), VARIABLES.len()),
        ("query", try_type::<SearchWords>(QUERIES, 100), QUERIES.len()),
    ];
    let (all, own) = tried.iter().fold((0, 0), |(all, own), (_, each, theirs)| (all + each, own + theirs));
    println!("{all} tried, {own} of them made for one type: {tried:?}");
    assert!(own >= 150, "{own}");
}

/// All that is kept of each, or which is refused.
fn kept<T: TryFrom<String, Error = Invalid> + fmt::Display>(texts: &[&str]) -> Vec<String> {
    texts
        .iter()
        .map(|text| T::try_from((*text).to_owned()).map_or_else(|error| error.to_string(), |it| it.to_string()))
        .collect()
}

#[test]
fn names_that_exist_are_legal() {
    let services = [
        "nginx",
        "getty@tty1",
        "getty@",
        "dbus-org.freedesktop.login1",
        "net.eth0",
        "systemd-cryptsetup@luks\\x2d1",
        "_x",
        "a:b",
    ];
    assert_eq!(kept::<ServiceName>(&services), services);
    assert_eq!(kept::<ServiceName>(&["nginx.service", "getty@tty1.service"]), ["nginx", "getty@tty1"]);

    let packages = [
        "g++",
        "libstdc++6",
        "libc6:i386",
        "R",
        "0ad",
        "python3.11",
        "NetworkManager",
        "glibc.i686",
        "java-1.8.0-openjdk",
        "ttf_x",
        "org.gnome.Calculator",
        "libsigc++-2.0-0v5",
        "linux-image-6.1.0-13-cloud-amd64",
        "xserver-xorg-video-all",
    ];
    assert_eq!(kept::<PackageName>(&packages), packages);

    let users = [
        "root",
        "_apt",
        "systemd-network",
        "ada.lovelace",
        "WEB01$",
        "ada@ad.example.org",
        "EXAMPLE\\ada",
        "12345@example.org",
        "9lives",
    ];
    assert_eq!(kept::<UserName>(&users), users);

    let principals = ["Administrator", "ada", "ada.l@EXAMPLE.ORG", "WEB01$@example.org", "12345"];
    assert_eq!(kept::<PrincipalName>(&principals), principals);

    let domains = ["example.org", "ad.corp.example", "CORP", "xn--bcher-kva.example", "1and1.example", "3.example"];
    assert_eq!(kept::<DomainName>(&domains), domains);
    assert_eq!(kept::<ComputerName>(&["WEB-01", "fifteen-letters"]), ["WEB-01", "fifteen-letters"]);

    let units =
        ["OU=Servers", "ou=Linux Computers,ou=R&D (Wien),dc=example,dc=org", "CN=Computers,DC=a", "OU=B\u{fc}ro,O=x"];
    assert_eq!(kept::<OrganizationalUnit>(&units), units);

    let mounts =
        ["/", "/home", "/media/ada/My Disk", "/mnt/\u{dc}bung", "/srv/..x/...", "/var/lib/docker/overlay2/a-b"];
    assert_eq!(kept::<MountPoint>(&mounts), mounts);
    assert_eq!(kept::<MountPoint>(&["/mnt/", "/media/ada/My Disk/"]), ["/mnt", "/media/ada/My Disk"]);
    assert!(FilePath::try_from("/mnt/".to_owned()).is_err(), "a folder's name is no file's");
    assert_eq!(kept::<EnvironmentName>(&["PATH", "_", "http_proxy", "A1"]), ["PATH", "_", "http_proxy", "A1"]);
}

#[test]
fn numbers_are_whole_and_within_their_bounds() {
    let pid = |value: Value| from_value::<Pid>(value).ok().map(Pid::get);
    assert_eq!([pid(json!(1)), pid(json!(i32::MAX))], [Some(1), Some(i32::MAX)]);
    for value in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("1"),
        json!("1 2"),
        json!(2_147_483_648_u64),
        json!(u64::MAX),
        json!(1e300),
    ] {
        assert_eq!(pid(value.clone()), None, "{value}");
    }
    let limit = |value: Value| from_value::<ListLimit>(value).ok().map(ListLimit::get);
    assert_eq!([limit(json!(1)), limit(json!(1000)), limit(json!(5000))], [Some(1), Some(1000), Some(1000)]);
    for value in [json!(0), json!(-5), json!(2.5), json!("10"), json!(u64::MAX), json!([])] {
        assert_eq!(limit(value.clone()), None, "{value}");
    }
}
