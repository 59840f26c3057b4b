//! The guide: a tutorial, how-tos, reference and explanation.
//!
//! - Start with the [tutorial].
//! - How to use FastAuth with [axum], [hyper], [tonic], with [browsers], from [other origins](origins), by [tickets], and with [streams]; how to [test an application](testing),
//!   [manage keys and revoke tokens](keys), and move over from [`fastauth-api`](migrating) or [auth-gate](from_auth_gate).
//! - In production: [systemd](deploy_systemd), [nginx and Caddy](deploy_proxies), [Docker and Kubernetes](deploy_containers), a [store server](store_server), [operations], [backups](backup),
//!   [updates](deploy_upgrade), [reloading the configuration](reloading).
//! - Reference: every [configuration key](configuration), the [program](cli), the [endpoints], [reasons, logs and metrics](observability), the [store API](store_api),
//!   the [glossary].
//! - Explanation: [rules], [how a path is read](paths), [sessions, rotation and what is cached](sessions), [what it costs](performance).
//!
//! It is built from the files under `docs/`. Their code is compiled with the tests, which have what it needs.

macro_rules! pages {
    ($($name:ident = $path:literal, $title:literal;)+) => {
        $(
            #[doc = $title]
            pub mod $name {
                #![doc = include_str!($path)]
            }
        )+
    };
}

pages! {
    tutorial = "../docs/guide/tutorial.md", "From an empty folder to a guarded application.\n\n";
    axum = "../docs/guide/axum.md", "How to guard an axum application.\n\n";
    hyper = "../docs/guide/hyper.md", "How to guard a hyper server.\n\n";
    tonic = "../docs/guide/tonic.md", "How to guard gRPC services.\n\n";
    deploy_systemd = "../docs/guide/deploy-systemd.md", "How to run it as a service of systemd.\n\n";
    deploy_proxies = "../docs/guide/deploy-proxies.md", "How to run it behind nginx or Caddy.\n\n";
    deploy_containers = "../docs/guide/deploy-containers.md", "How to run it in Docker and Kubernetes.\n\n";
    reloading = "../docs/guide/reloading.md", "How to change the configuration while requests run.\n\n";
    deploy_upgrade = "../docs/guide/deploy-upgrade.md", "How to update it, and to rotate keys, without a refused request.\n\n";
    browsers = "../docs/guide/browsers.md", "How pages log in, refresh and open WebSockets.\n\n";
    tickets = "../docs/guide/tickets.md", "Tickets for what cannot set headers: `EventSource`, images, downloads.\n\n";
    streams = "../docs/guide/streams.md", "How event streams, gRPC streams, downloads and WebSockets end with their tokens.\n\n";
    origins = "../docs/guide/origins.md", "How pages of other origins use it: CORS, the cookie and `SameSite`.\n\n";
    testing = "../docs/guide/testing.md", "How to test an application.\n\n";
    keys = "../docs/guide/keys.md", "How to rotate keys, revoke tokens and encrypt the store.\n\n";
    backup = "../docs/backup.md", "How to back up the embedded database.\n\n";
    store_server = "../docs/guide/store-server.md", "How to run the store server.\n\n";
    operations = "../docs/operations.md", "How to operate it, from one file to PostgreSQL with a standby.\n\n";
    migrating = "../docs/guide/migrating.md", "How to move over from `fastauth-api`.\n\n";
    from_auth_gate = "../docs/guide/from-auth-gate.md", "How to move over from auth-gate.\n\n";
    cli = "../docs/guide/cli.md", "The program `fastauth`: its commands, with examples.\n\n";
    endpoints = "../docs/guide/endpoints.md", "The endpoints for tokens.\n\n";
    observability = "../docs/observability.md", "Logs, reasons, metrics and health.\n\n";
    store_api = "../docs/store-api.md", "The HTTP API of token stores.\n\n";
    rules = "../docs/guide/rules.md", "What requests need, by path and method: rules.\n\n";
    paths = "../docs/guide/paths.md", "Which paths a prefix guards, and how a path is read.\n\n";
    sessions = "../docs/guide/sessions.md", "Sessions, rotation, and what is cached.\n\n";
    glossary = "../docs/guide/glossary.md", "The words, and what others call the same.\n\n";
    performance = "../docs/performance.md", "What it costs.\n\n";
}

/// Where settings come from, and every configuration key.
///
pub mod configuration {
    #![doc = include_str!("../docs/guide/settings.md")]
    #![doc = include_str!("../docs/configuration.md")]
}
