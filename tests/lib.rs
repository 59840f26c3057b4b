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
    Containers = "../docs/guide/containers.md";
    Endpoints = "../docs/guide/endpoints.md";
    Hyper = "../docs/guide/hyper.md";
    Keys = "../docs/guide/keys.md";
    Migrating = "../docs/guide/migrating.md";
    Observability = "../docs/observability.md";
    Paths = "../docs/guide/paths.md";
    Performance = "../docs/performance.md";
    Proxies = "../docs/guide/proxies.md";
    Sessions = "../docs/guide/sessions.md";
    Settings = "../docs/guide/settings.md";
    StoreApi = "../docs/store-api.md";
    Testing = "../docs/guide/testing.md";
    Tonic = "../docs/guide/tonic.md";
    Tutorial = "../docs/guide/tutorial.md";
}
