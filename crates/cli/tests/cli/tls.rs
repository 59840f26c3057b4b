//! A store behind TLS, and the certificates that it is verified by.

use std::{fs, sync::Arc};

use axum::Router;
use fastauth::store::{MemoryStore, StoreService};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

use super::{Place, stderr, stdout};

/// Creates an authority that signs certificates.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Serves an empty store as `localhost`, with a certificate of this authority, and returns its port.
async fn serve(authority: &CertifiedIssuer<'static, KeyPair>) -> u16 {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let store = Router::new().fallback_service(StoreService::new(Arc::new(MemoryStore::new())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            let store = TowerToHyperService::new(store.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate breaks the handshake off.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let server = hyper::server::conn::http1::Builder::new();
                let _ = server.serve_connection(TokioIo::new(stream), store).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_tls_is_verified_by_the_trusted_authorities() {
    let place = Place::new();
    let signing = authority("signing");
    let port = serve(&signing).await;
    for (file, authority) in [("signing.pem", &signing), ("other.pem", &authority("other"))] {
        fs::write(place.path().join(file), authority.pem()).unwrap();
    }
    let test = |host: &str, trusted: &str| {
        let url = format!("https://{host}:{port}");
        place.command(&["store", "test", &url]).env("SSL_CERT_FILE", place.path().join(trusted)).output().unwrap()
    };
    let passed = test("localhost", "signing.pem");
    assert!(stdout(&passed).contains("The store speaks v2: "), "{}", stderr(&passed));
    assert_eq!(passed.status.code(), Some(0), "{}", stdout(&passed));
    for (host, trusted, problem) in [
        ("localhost", "other.pem", "invalid peer certificate: UnknownIssuer"),
        ("127.0.0.1", "signing.pem", "invalid peer certificate: certificate not valid for name"),
    ] {
        let refused = test(host, trusted);
        assert_eq!((refused.status.code(), stdout(&refused)), (Some(1), String::new()), "{host} {trusted}");
        assert!(stderr(&refused).contains(problem), "{}", stderr(&refused));
    }
}

/// The store of a configuration, and not only that of a test.
#[tokio::test(flavor = "multi_thread")]
async fn a_configured_store_behind_tls_is_reached() {
    let signing = authority("signing");
    let port = serve(&signing).await;
    let place = Place::ready(&json!({ "database-api-url": format!("https://localhost:{port}") }));
    fs::write(place.path().join("signing.pem"), signing.pem()).unwrap();
    let check =
        |trusted: &str| place.command(&["check"]).env("SSL_CERT_FILE", place.path().join(trusted)).output().unwrap();
    let reached = check("signing.pem");
    assert_eq!(reached.status.code(), Some(0), "{}{}", stdout(&reached), stderr(&reached));
    assert!(stdout(&reached).contains("; answers)"), "{}", stdout(&reached));
    fs::write(place.path().join("other.pem"), authority("other").pem()).unwrap();
    assert_eq!(check("other.pem").status.code(), Some(1));
}
