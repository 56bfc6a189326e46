//! The pages under `docs/` and the README, compiled and run.

macro_rules! pages {
    ($($name:ident: $page:literal),* $(,)?) => {$(
        #[doc = include_str!(concat!("../../", $page))]
        pub mod $name {}
    )*};
}

pages! {
    readme: "README.md",
    getting_started: "docs/getting-started.md",
    layers: "docs/layers.md",
    transforms: "docs/transforms.md",
    session: "docs/session.md",
    policies: "docs/policies.md",
    gateway: "docs/gateway.md",
    observability: "docs/observability.md",
    stores: "docs/stores.md",
    lessons: "docs/lessons.md",
    rewrites: "docs/rewrites.md",
    performance: "docs/performance.md",
    compatibility: "docs/compatibility.md",
    architecture: "docs/ARCHITECTURE.md",
    contributing: "CONTRIBUTING.md",
    engine: "docs/design/engine.md",
}
