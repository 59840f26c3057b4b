//! Compiles the code in the guide: what it needs is here, and not in the dev-dependencies of `fastauth`.

#![cfg(doctest)]

macro_rules! compile {
    ($($name:ident = $path:literal;)+) => {
        $(
            #[doc = include_str!($path)]
            struct $name;
        )+
    };
}

compile! {
    Axum = "../docs/guide/axum.md";
    Backup = "../docs/backup.md";
    Browsers = "../docs/guide/browsers.md";
    Configuration = "../docs/configuration.md";
    DeployContainers = "../docs/guide/deploy-containers.md";
    DeployProxies = "../docs/guide/deploy-proxies.md";
    DeploySystemd = "../docs/guide/deploy-systemd.md";
    DeployUpgrade = "../docs/guide/deploy-upgrade.md";
    Endpoints = "../docs/guide/endpoints.md";
    Hyper = "../docs/guide/hyper.md";
    Keys = "../docs/guide/keys.md";
    Migrating = "../docs/guide/migrating.md";
    Observability = "../docs/observability.md";
    Paths = "../docs/guide/paths.md";
    Performance = "../docs/performance.md";
    Sessions = "../docs/guide/sessions.md";
    Settings = "../docs/guide/settings.md";
    StoreServer = "../docs/guide/store-server.md";
    StoreApi = "../docs/store-api.md";
    Testing = "../docs/guide/testing.md";
    Tonic = "../docs/guide/tonic.md";
    Tutorial = "../docs/guide/tutorial.md";
}
