//! How the program listens: limits, and whom it believes.

use std::time::Duration;

use anyhow::Context;
use tollgate_gateway::{
    config::Config,
    serve::{ForwardedDepth, ServeOptions, TrustedProxies},
};

pub(super) fn serve_options(config: &Config) -> anyhow::Result<ServeOptions> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let or_default = |given: Duration, default| if given.is_zero() { default } else { given };
    let defaults = ServeOptions::default();
    let http = &config.http_server_options;
    let depth = usize::try_from(http.xff_depth).unwrap_or_default();
    let proxies = trusted_proxies(config)?;
    let proxies = match depth {
        0 => proxies,
        depth => proxies.with_depth(ForwardedDepth::FromRight(depth)),
    };
    Ok(ServeOptions {
        proxies,
        http2_in_clear: http.enable_http2 != Some(false),
        body_idle_timeout: or_default(seconds(http.read_timeout), defaults.body_idle_timeout),
        most_body: match u64::try_from(http.max_request_body_size) {
            Ok(most) if most > 0 => most,
            _ => defaults.most_body,
        },
        write_timeout: or_default(seconds(http.write_timeout), defaults.write_timeout),
        ..defaults
    })
}

/// Whom the configuration believes when it names a client: this machine, where it says nothing.
fn trusted_proxies(config: &Config) -> anyhow::Result<TrustedProxies> {
    let Some(proxies) = &config.tollgate.trusted_proxies else {
        return Ok(TrustedProxies::loopback());
    };
    let network = |text: &String| {
        let address = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        address
            .or_else(|_| text.parse())
            .with_context(|| format!("tollgate.trusted_proxies: {text}"))
    };
    let networks: Vec<_> = proxies.iter().map(network).collect::<anyhow::Result<_>>()?;
    Ok(TrustedProxies::new(networks))
}
