//! URL rewrites. The first line is a pattern, the second a target, the third the pattern of a trigger on a
//! header, the fourth that trigger's target, the fifth a `meta_data` object, the sixth a URL, and all behind
//! it the value of the header and of every context variable.

use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use tollgate_core::{
    meta::MetaData,
    rewrite::{
        Destination, Facts, Rewrite, RewriteFailed, RewriteMatch, RewriteOptions, RewriteTrigger,
        Rewritten, TargetKind,
    },
    variables::Context,
};

/// Checks a rewrite on a request.
pub fn check(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let mut lines = input.splitn(7, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (pattern, target) = (line(), line());
    let (on_header, trigger_target) = (line(), line());
    let (meta, url, value) = (line(), line(), line());
    let Ok(rewrite) = Rewrite::new(pattern, target) else {
        return;
    };
    let meta: MetaData = serde_json::from_str(meta).unwrap_or_default();
    let trigger = RewriteTrigger {
        on: "any".into(),
        options: RewriteOptions {
            header_matches: [("x-value".into(), RewriteMatch::from(on_header))].into(),
            ..RewriteOptions::default()
        },
        rewrite_to: trigger_target.into(),
    };
    let with_trigger = rewrite.clone().when(trigger).ok();
    for rewrite in [Some(rewrite), with_trigger].into_iter().flatten() {
        for rewrite in [rewrite.clone(), rewrite.with_tyk_values()] {
            check_one(&rewrite, url, &meta, value);
        }
    }
}

struct Everywhere<'a>(&'a str);

impl Context for Everywhere<'_> {
    fn write(&self, _name: &str, out: &mut String) {
        out.push_str(self.0);
    }
}

fn applied(
    rewrite: &Rewrite,
    url: &str,
    meta: Option<&MetaData>,
    value: &str,
) -> Result<Option<Rewritten>, RewriteFailed> {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert("x-value", value);
    }
    rewrite.apply(&Facts {
        url,
        headers: &headers,
        meta,
        context: &Everywhere(value),
        payload: value.as_bytes(),
    })
}

fn check_one(rewrite: &Rewrite, url: &str, meta: &MetaData, value: &str) {
    let Ok(Some(rewritten)) = applied(rewrite, url, Some(meta), value) else {
        return;
    };
    let kind = rewrite
        .target_kinds()
        .nth(rewritten.target)
        .expect("its kind");
    check_destination(&rewritten.destination, kind);
    check_no_expansion(rewrite, &rewritten, url, value);
    check_structure(rewrite, &rewritten, url, meta);
}

/// What comes out is of the kind that was told beforehand, and can be read in one way.
fn check_destination(destination: &Destination, kind: TargetKind<'_>) {
    let path = match destination {
        Destination::Path(path) => {
            assert!(matches!(kind, TargetKind::Path | TargetKind::HostByMeta));
            path
        }
        Destination::Url(url) => {
            let host = url.authority().expect("a host");
            match kind {
                TargetKind::Host(scheme, known) => {
                    assert_eq!((url.scheme(), host), (Some(scheme), known));
                }
                other => assert_eq!(other, TargetKind::HostByMeta),
            }
            assert!(!host.as_str().contains('@'), "{host}");
            url.path_and_query().expect("a path")
        }
        Destination::Internal(internal) => {
            assert_eq!(kind, TargetKind::Internal(&internal.api));
            &internal.path
        }
        other => panic!("{other:?}"),
    };
    assert!(path.as_str().starts_with('/'), "{path}");
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    assert!(path.as_str().bytes().all(is_plain), "{path}");
    for segment in path.path().split('/') {
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
        assert!(!matches!(&decoded[..], b"." | b".."), "{path}");
        assert!(!decoded.iter().any(u8::is_ascii_control), "{path}");
    }
}

/// Metadata goes where a target names it, and nowhere because a client does.
fn check_no_expansion(rewrite: &Rewrite, rewritten: &Rewritten, url: &str, value: &str) {
    const MARK: &str = "zqMETAqz";
    let names: MetaData = ["a", "b", "secret"]
        .into_iter()
        .map(|name| (name, Value::from(MARK)))
        .collect();
    let Ok(Some(bare)) = applied(rewrite, url, None, value) else {
        return;
    };
    let marked = applied(rewrite, url, Some(&names), value);
    let mentions = format!("{:?}", rewritten.destination).contains(MARK);
    if let Ok(Some(marked)) = marked
        && !mentions
        && shown(&marked.destination).contains(MARK)
    {
        // It is there because the target says so: of another URL it is there, too.
        assert_ne!(shown(&bare.destination), shown(&marked.destination));
        let other = format!("{url}&x=$tyk_meta.a$tyk_meta.secret");
        if let Ok(Some(other)) = applied(rewrite, &other, Some(&names), value) {
            let count = |destination| shown(destination).matches(MARK).count();
            assert_eq!(
                count(&other.destination),
                count(&marked.destination),
                "{url}"
            );
        }
    }
}

/// A value adds no segment, no parameter and no setting.
fn check_structure(rewrite: &Rewrite, rewritten: &Rewritten, url: &str, meta: &MetaData) {
    let Ok(Some(plain)) = applied(rewrite, url, Some(meta), "x") else {
        return;
    };
    if plain.target != rewritten.target {
        return;
    }
    let marks = |destination: &Destination| {
        let shown = shown(destination);
        ["/", "?", "&", "#", "="].map(|mark| shown.matches(mark).count())
    };
    assert_eq!(marks(&plain.destination), marks(&rewritten.destination));
    if let (Destination::Internal(one), Destination::Internal(other)) =
        (&plain.destination, &rewritten.destination)
    {
        assert_eq!((&one.api, &one.settings), (&other.api, &other.settings));
    }
}

fn shown(destination: &Destination) -> String {
    match destination {
        Destination::Path(path) => path.to_string(),
        Destination::Url(url) => url.to_string(),
        Destination::Internal(internal) => internal.path.to_string(),
        other => panic!("{other:?}"),
    }
}
