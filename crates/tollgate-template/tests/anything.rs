//! Whatever the text of a template and the body are: nothing panics, and all stays within the limits.

use proptest::{collection::vec, prelude::*, sample::select};
use tollgate_template::{
    ErrorKind, Format, Limits, MixedContent, Options, RenderError, Template, json, xml,
};

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

/// What lists and objects hold; names come twice, and texts have escapes.
fn values() -> impl Strategy<Value = String> {
    let leaf = select(
        &[
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1.5e3",
            "9007199254740993",
            "\"\"",
            "\"a\"",
            "\"a\\n\\u00e9\\\"]}\"",
            "\"é,:\"",
            "\"\\\\\"",
            "\"\\ud83d\"",
            " 7 ",
            "[]",
            "{}",
            "[ ]",
            "{ }",
        ][..],
    );
    let name = select(&["\"a\"", "\"b\"", "\"\\u0061\"", "\"c\" ", "\"\"", "\"{\""][..]);
    leaf.prop_map(str::to_owned)
        .prop_recursive(4, 40, 6, move |inner| {
            let members = vec((name.clone(), inner.clone()), 0..5);
            let member = |(name, value): (&str, String)| format!("{name}: {value}");
            prop_oneof![
                vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(", "))),
                members.prop_map(move |all| {
                    format!(
                        "{{{}}}",
                        all.into_iter().map(member).collect::<Vec<_>>().join(",")
                    )
                }),
            ]
        })
}

/// Ways to look at all that is in a body.
const LOOKS: [&str; 6] = [
    "{{ . }}{{ toJson . }}",
    "{{ define \"v\" }}{{ typeOf . }}{{ if kindIs \"slice\" . }}{{ len . }}{{ if . }}{{ index . 0 | toJson }}{{ end }}\
        {{ range . }}{{ template \"v\" . }};{{ end }}{{ else if kindIs \"map\" . }}{{ len . }}{{ .a }}\
        {{ range $k, $v := . }}{{ $k }}={{ template \"v\" $v }};{{ end }}{{ else }}{{ . }}{{ end }}{{ end }}\
        {{ template \"v\" . }}",
    "{{ with .array }}{{ first . }}{{ last . }}{{ rest . }}{{ reverse . }}{{ uniq . }}{{ has 0.0 . }}{{ slice . 1 }}{{ end }}",
    "{{ keys . | sortAlpha }}{{ values . }}{{ if eq (toJson .) \"x\" }}{{ end }}{{ deepEqual . (deepCopy .) }}",
    "{{ with .a }}{{ if kindIs \"map\" . }}{{ $_ := set . \"new\" 1 }}{{ . }}{{ end }}{{ end }}{{ .a }}{{ .b }}",
    "{{ range .array }}{{ if kindIs \"map\" . }}{{ $_ := set . \"new\" . }}{{ .a }}{{ len . }}{{ end }}{{ end }}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_looked_through_is_what_is_read(body in values(), look in select(&LOOKS[..]), document in 0_usize..2000) {
        let limits = Limits { document, ..Limits::default() };
        let template = Options::new().with_limits(limits).parse("t", look).expect("a template");
        let looked = template.render_json(body.as_bytes(), &[], &|_| String::new());
        match (json(body.as_bytes()).map(|tree| template.render(&tree)), looked) {
            (Ok(Ok(read)), Ok(looked)) => {
                let [read, looked] = [read, looked].map(|text| String::from_utf8_lossy(&text).into_owned());
                prop_assert_eq!(looked, read);
            }
            (Ok(Err(read)), Err(RenderError::Template(looked))) => prop_assert_eq!(looked, read),
            (Err(read), Err(RenderError::Input(looked))) => prop_assert_eq!(looked, read),
            (read, looked) => prop_assert!(false, "{looked:?}, and not {read:?}"),
        }
    }

    #[test]
    fn attack_43_whatever_the_room_is_a_body_is_rendered_or_refused(
        body in values(), look in select(&LOOKS[..]), room in 0_usize..40_000,
    ) {
        let template = Template::parse("t", look).expect("a template");
        let render = |room| template.render_body(body.as_bytes(), Format::Json, &[], &|_| String::new(), room);
        if let Ok(text) = render(room) {
            prop_assert_eq!(text, render(usize::MAX).expect("the same"));
        }
    }

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
