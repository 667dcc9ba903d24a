//! Users as the system's directory knows them.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::unistd::{Uid, User, getgrouplist};

use super::super::Account;
use crate::commands::validation::UserName;

impl Account {
    /// The account of a user, and nothing where there is no such user. All of it is asked for now, because the child between fork and
    /// exec can ask nobody. A directory may be a server far away, so this waits on a thread for blocking work.
    ///
    /// # Errors
    /// Where the directory cannot be asked.
    pub async fn look_up(name: &UserName) -> io::Result<Option<Self>> {
        let name = name.as_str().to_owned();
        tokio::task::spawn_blocking(move || User::from_name(&name)?.map(Self::from_user).transpose()).await?
    }

    /// The account that the agent itself runs as; root where the directory does not know.
    pub(super) fn of_the_agent() -> Self {
        let known = User::from_uid(Uid::effective()).ok().flatten().and_then(|user| Self::from_user(user).ok());
        known.unwrap_or_else(|| Self {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: PathBuf::from("/root"),
        })
    }

    fn from_user(user: User) -> io::Result<Self> {
        let name = CString::new(user.name.as_str())?;
        let groups = getgrouplist(&name, user.gid)?;
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            home: user.dir,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look_up(name: &str) -> Option<Account> {
        Account::look_up(&UserName::try_from(name.to_owned()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn users_are_found_with_their_groups() {
        let root = look_up("root").await.unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert!(root.groups.contains(&0), "{root:?}");
        assert_eq!(look_up("no-such-user-here").await, None);
    }
}
