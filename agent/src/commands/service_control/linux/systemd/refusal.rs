//! What systemd's errors mean for a host.

use infini_protocol::ErrorCode;
use zbus::{DBusError, Error, fdo};

use crate::commands::outcome::CommandError;
use crate::commands::service_control::manager::{Change, ServiceError};
use crate::commands::validation::ServiceName;

/// An error of D-Bus or of systemd as a sentence.
pub(super) struct Refusal(CommandError);

impl Refusal {
    /// Of a change.
    pub(super) fn of(change: Change, name: &ServiceName, error: Error) -> Self {
        let verb = change.verb();
        let (code, sentence) = match error_name(&error).as_deref() {
            Some("org.freedesktop.systemd1.NoSuchUnit") => return Self(ServiceError::not_found(name).error),
            Some("org.freedesktop.systemd1.OnlyByDependency") => (
                ErrorCode::CommandFailed,
                "its unit lets only other units do that (RefuseManualStart=, RefuseManualStop=)",
            ),
            Some("org.freedesktop.systemd1.UnitMasked") => {
                (ErrorCode::CommandFailed, "it is masked; unmask it in the guest first (systemctl unmask)")
            }
            _ => return Self::from(error),
        };
        Self(CommandError::new(code, format!("cannot {verb} {name}: {sentence}")))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let said = match &error {
            Error::MethodError(name, text, _) => Some(text.clone().unwrap_or_else(|| name.to_string())),
            Error::FDO(error) => Some(error.description().map_or_else(|| error.name().to_string(), str::to_owned)),
            _ => None,
        };
        Self(CommandError::failed(match said {
            Some(said) => format!("systemd refuses: {said}"),
            None => format!("cannot ask systemd over D-Bus: {error}"),
        }))
    }
}

impl From<Refusal> for ServiceError {
    fn from(refusal: Refusal) -> Self {
        refusal.0.into()
    }
}

/// Whether systemd misses a unit's file.
pub(super) fn is_missing_file(error: &Error) -> bool {
    error_name(error).as_deref() == Some("org.freedesktop.systemd1.NoSuchUnit")
        || matches!(error, Error::FDO(error) if matches!(**error, fdo::Error::FileNotFound(_)))
}

fn error_name(error: &Error) -> Option<String> {
    match error {
        Error::MethodError(name, ..) => Some(name.to_string()),
        _ => None,
    }
}
