//! A certificate chain and its private key: the two PEM files, and the TLS configuration made of them.

use std::fs;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::error::StartError;
use crate::file_version::FileVersion;
use crate::settings::Settings;

/// The only protocol inside TLS. A client that offers others alone is refused in the handshake.
const ALPN: &[u8] = b"http/1.1";

const CERT: &str = "tls_cert";
const KEY: &str = "tls_key";

/// The paths of the two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    cert: String,
    key: String,
}

/// The version of a file. `None` for a file that cannot be found.
pub(super) type Version = Option<FileVersion>;

impl Files {
    /// Returns the paths in the settings, or `None` without TLS.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, StartError> {
        let missing = |setting, other| {
            let reason = format!("must be set as well as {other}");
            StartError::Certificate { setting, reason }
        };
        match (settings.tls_cert.as_str(), settings.tls_key.as_str()) {
            ("", "") => Ok(None),
            ("", _) => Err(missing(CERT, KEY)),
            (_, "") => Err(missing(KEY, CERT)),
            (cert, key) => Ok(Some(Self {
                cert: cert.to_owned(),
                key: key.to_owned(),
            })),
        }
    }

    /// Returns the versions of both files.
    pub(super) fn versions(&self) -> [Version; 2] {
        [&self.cert, &self.key].map(|path| FileVersion::of(path).ok())
    }

    /// Reads both files. The errors quote nothing of their content.
    pub(super) fn read(&self) -> Result<Arc<ServerConfig>, StartError> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(&content(CERT, &self.cert)?).collect();
        let chain = chain.unwrap_or_default();
        if chain.is_empty() {
            return Err(bad(CERT, "the file has no certificate in PEM format"));
        }
        let key = PrivateKeyDer::from_pem_slice(&content(KEY, &self.key)?)
            .map_err(|_| bad(KEY, "the file has no unencrypted private key in PEM format"))?;
        let provider = Arc::new(ring::default_provider());
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(of_pair)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(of_pair)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Clients resume with tickets, so the server keeps no sessions. A new certificate makes older tickets useless.
        config.ticketer = ring::Ticketer::new().map_err(of_pair)?;
        Ok(Arc::new(config))
    }
}

fn content(setting: &'static str, path: &str) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|error| bad(setting, &format!("the file cannot be read: {error}")))
}

fn of_pair(error: rustls::Error) -> StartError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            bad(KEY, "the private key does not belong to the certificate")
        }
        rustls::Error::InvalidCertificate(error) => {
            bad(CERT, &format!("the certificate is invalid: {error}"))
        }
        error => bad(KEY, &error.to_string()),
    }
}

fn bad(setting: &'static str, reason: &str) -> StartError {
    StartError::Certificate {
        setting,
        reason: reason.to_owned(),
    }
}
