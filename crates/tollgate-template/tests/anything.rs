//! Whatever the text of a template and the body are: nothing panics, and all stays within the limits.

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate_template::{ErrorKind, Limits, MixedContent, Options, RenderError, Template, xml};

const LIMITS: Limits = Limits {
    output: 4096,
    memory: 1 << 16,
    document: 1 << 16,
    steps: 2000,
    depth: 8,
};

/// What templates are made of, so that some of what is put together is one.
const PIECES: [&str; 72] = [
    "{{",
    "}}",
    "{{-",
    "-}}",
    "{{ ",
    " }}",
    "if ",
    "else ",
    "else if ",
    "end",
    "{{ end }}",
    "range ",
    "range $i, $v := ",
    "with ",
    "define \"t\"",
    "template \"t\" ",
    "block \"t\" ",
    "break",
    "continue",
    "/* */",
    ".",
    ".a",
    ".a.b",
    ".array",
    "$",
    "$x",
    "$x := ",
    "$x = ",
    "(",
    ")",
    " | ",
    " ",
    "\n",
    "1",
    "-2.5",
    "1e6",
    "0x1f",
    "'c'",
    "\"s\"",
    "`r`",
    "nil",
    "true",
    "dict \"a\" 1",
    "set . \"a\" ",
    "list 1 2",
    "until 1000",
    "repeat 1000 ",
    "printf \"%9d%q%v\" ",
    "print ",
    "len ",
    "index ",
    "slice ",
    "eq ",
    "and ",
    "or ",
    "not ",
    "jsonMarshal",
    "toJson",
    "fromJson",
    "xmlMarshal",
    "merge ",
    "regexMatch \"(a*)*\" ",
    "regexReplaceAll \"a\" ",
    "substr 1 2 ",
    "trunc 2",
    "splitList \"\" ",
    "add 1 ",
    "div 1 ",
    "date \"06\" ",
    "semver ",
    "deepCopy ",
    "text $ 🙂",
];

const BODIES: [&str; 6] = [
    "{}",
    r#"{"a": {"b": [1, "x", null]}}"#,
    r#"[1, 2, {"a": "b"}]"#,
    r#"{"a": "\ud83d text"}"#,
    "7",
    "no json",
];

fn templates() -> impl Strategy<Value = String> {
    prop_oneof![
        vec(select(&PIECES[..]), 0..24).prop_map(|pieces| pieces.concat()),
        // Whole actions, of which most are templates.
        vec(select(&PIECES[20..]), 1..5)
            .prop_map(|pieces| format!("x{{{{ {} }}}}y", pieces.join(" "))),
        ".*",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn attack_43_no_template_panics_or_leaves_its_limits(text in templates(), body in select(&BODIES[..])) {
        let template = match Options::new().with_limits(LIMITS).parse("t", &text) {
            Ok(template) => template,
            Err(err) => {
                prop_assert_eq!(err.kind(), ErrorKind::Parse);
                return Ok(());
            }
        };
        match template.render_json(body.as_bytes(), &[], &|_| String::new()) {
            Ok(text) => prop_assert!(text.len() <= LIMITS.output),
            Err(RenderError::Template(err)) => prop_assert_ne!(err.kind(), ErrorKind::Parse),
            Err(RenderError::Input(_)) => prop_assert_eq!(body, "no json"),
        }
    }

    #[test]
    fn attack_44_no_document_of_xml_panics(
        pieces in vec(select(&[
            "<a>", "</a>", "<a/>", "<b x=\"1\">", "</b>", "<p:c xmlns:p='u'>", "</p:c>", "text", " ", "&amp;", "&#x41;",
            "&x;", "<![CDATA[", "]]>", "<!--", "-->", "<?xml version=\"1.0\" encoding=\"utf-8\"?>", "<?p?>",
            "<!DOCTYPE a>", "\u{fffe}", "é", "<", ">", "\"",
        ][..]), 0..24),
        bytes in vec(any::<u8>(), 0..8),
    ) {
        let mut text = pieces.concat().into_bytes();
        text.extend(bytes);
        let write = Template::parse("t", "{{ . | xmlMarshal }}{{ . | toJson }}").expect("a template");
        for mixed in [MixedContent::Joined, MixedContent::Tyk] {
            if let Ok(document) = xml(&text, mixed) {
                let _ = write.render(&document); // Keys that are no names of XML are an error.
            }
        }
    }
}
