//! TLS of the listener: the certificate in force, its renewal, and the sockets of connections.

mod certificate;
pub(crate) mod socket;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use self::certificate::{Files, Version};
use crate::error::StartError;
use crate::settings::Settings;

/// Time between two looks at the files of the certificate.
const INTERVAL: Duration = Duration::from_secs(1);

/// The certificate in force. It is empty without TLS.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    current: ArcSwapOption<Certificate>,
    /// Versions of the files at the last look. A change counts only when two looks agree, because a renewal writes two
    /// files.
    seen: Mutex<[Version; 2]>,
    /// Wakes the watcher when TLS is switched on.
    changed: Notify,
}

/// A certificate that was read.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: Files,
    versions: [Version; 2],
    config: Arc<ServerConfig>,
}

impl Certificate {
    fn read(files: Files) -> Result<Self, StartError> {
        // The versions come first, so that a later change is never overlooked.
        let versions = files.versions();
        let config = files.read()?;
        Ok(Self {
            files,
            versions,
            config,
        })
    }
}

impl Tls {
    /// Returns the acceptor of TLS handshakes, or `None` without TLS.
    pub(crate) fn acceptor(&self) -> Option<TlsAcceptor> {
        let current = self.current.load();
        current
            .as_ref()
            .map(|current| current.config.clone().into())
    }

    /// Reads the certificate in the settings. The certificate in force is returned if its files are the same.
    ///
    /// # Errors
    /// [`StartError::Certificate`] if a setting or a file is wrong.
    pub(crate) fn read(&self, settings: &Settings) -> Result<Option<Arc<Certificate>>, StartError> {
        let Some(files) = Files::of(settings)? else {
            return Ok(None);
        };
        match self.current.load_full() {
            Some(current) if current.files == files => Ok(Some(current)),
            _ => Certificate::read(files).map(|read| Some(Arc::new(read))),
        }
    }

    /// Puts a certificate in force for new connections, and returns the one before.
    pub(crate) fn replace(
        &self,
        certificate: Option<Arc<Certificate>>,
    ) -> Option<Arc<Certificate>> {
        let before = self.current.swap(certificate);
        self.changed.notify_one();
        before
    }

    /// Reads the certificate again whenever its files have changed.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            while self.current.load().is_none() {
                self.changed.notified().await;
            }
            sleep(INTERVAL).await;
            let this = self.clone();
            // A panic there ends only this look.
            let _ = tokio::task::spawn_blocking(move || this.renew()).await;
        }
    }

    /// Looks at the files once.
    fn renew(&self) {
        let Some(current) = self.current.load_full() else {
            return;
        };
        let versions = current.files.versions();
        let before = std::mem::replace(&mut *self.seen.lock(), versions);
        if versions == current.versions || versions != before {
            return;
        }
        let read = current.files.read();
        let config = match &read {
            Ok(config) => config.clone(),
            Err(_) => current.config.clone(),
        };
        let next = Arc::new(Certificate {
            files: current.files.clone(),
            versions,
            config,
        });
        let replaced = self.current.compare_and_swap(&current, Some(next));
        // New settings may have replaced it meanwhile.
        if !replaced
            .as_ref()
            .is_some_and(|replaced| Arc::ptr_eq(replaced, &current))
        {
            return;
        }
        match read {
            Ok(_) => tracing::info!(
                name: "renewed_certificate",
                "The WebSocket server uses the renewed certificate for new connections."
            ),
            Err(error) => tracing::warn!(
                name: "refused_certificate", %error,
                "The WebSocket server keeps the old certificate, because the changed files are invalid: {error}."
            ),
        }
    }
}
