//! What templates can not do: run for ever, fill the memory, end the process, change the data.
#![expect(clippy::unwrap_used, reason = "a test")]

use serde_json::{Value as Json, json};
use tollgate_template::{ErrorKind, Input, Limits, MixedContent, Options, Template, xml};

/// Renders on a stack as small as those of a runtime's threads.
fn render(text: &'static str, document: Json) -> Result<String, ErrorKind> {
    let limits = Limits {
        output: 1 << 16,
        memory: 1 << 20,
        steps: 100_000,
        depth: 64,
        ..Limits::default()
    };
    let thread = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || {
            let template = Options::new().with_limits(limits).parse("t", text);
            let rendered = template.and_then(|template| template.render(&document));
            rendered
                .map(|text| String::from_utf8(text).unwrap())
                .map_err(|err| err.kind())
        });
    thread.unwrap().join().unwrap()
}

#[track_caller]
fn is_stopped(text: &'static str) {
    assert_eq!(
        render(text, json!({"l": [1, 2, 3]})),
        Err(ErrorKind::Limit),
        "{text}"
    );
}

#[test]
fn attack_43_templates_that_go_on_for_ever_are_stopped() {
    is_stopped("{{range 1000000000}}{{end}}");
    is_stopped("{{range until 100000000}}x{{end}}");
    is_stopped("{{define \"r\"}}{{template \"r\"}}{{end}}{{template \"r\"}}");
    is_stopped(
        "{{define \"r\"}}{{if true}}{{with 1}}{{template \"r\"}}{{end}}{{end}}{{end}}{{template \"r\"}}",
    );
    is_stopped("{{range 300}}{{range 300}}{{range 300}}{{end}}{{end}}{{end}}");
    is_stopped("{{seq 100000000}}");
}

#[test]
fn attack_43_templates_that_fill_the_memory_are_stopped() {
    is_stopped("{{repeat 1000000000 \"x\"}}");
    is_stopped("{{$x := \"x\"}}{{range 100}}{{$x = print $x $x}}{{end}}");
    is_stopped("{{printf \"%999999d\" 1}}");
    is_stopped("{{indent 1000000000 \"x\"}}");
    is_stopped("{{replace \"\" (repeat 60000 \"y\") (repeat 60000 \"x\")}}");
    is_stopped("{{randAscii 1000000000}}");
    is_stopped("{{range 70000}}x{{end}}");
    is_stopped("{{$l := list 1}}{{range 100}}{{$l = concat $l $l}}{{end}}");
    is_stopped("{{$d := dict}}{{range 100}}{{$d = dict \"a\" $d \"b\" $d}}{{end}}{{$d}}");
}

#[test]
fn attack_43_what_holds_itself_is_no_danger() {
    is_stopped("{{$d := dict}}{{$_ := set $d \"d\" $d}}{{$d}}");
    is_stopped("{{$d := dict}}{{$_ := set $d \"d\" $d}}{{toJson $d}}");
    is_stopped("{{$d := dict}}{{$_ := set $d \"d\" $d}}{{deepCopy $d}}");
    is_stopped(
        "{{$d := dict}}{{$_ := set $d \"d\" $d}}{{deepEqual $d (dict \"d\" $d)}}{{xmlMarshal $d}}",
    );
    is_stopped(
        "{{$d := dict}}{{$_ := set $d \"d\" $d}}{{merge $d (dict \"d\" $d)}}{{printf \"%v\" $d}}",
    );
    // Deep, but never walked: it is let go all at once.
    let deep = "{{$d := dict}}{{range 5000}}{{$d = dict \"d\" $d}}{{end}}done";
    assert_eq!(render(deep, json!({})).as_deref(), Ok("done"));
}

#[test]
fn attack_43_neither_environment_nor_files_are_there() {
    for text in [
        "{{env \"HOME\"}}",
        "{{expandenv \"$HOME\"}}",
        "{{readFile \"/etc/passwd\"}}",
        "{{include \"/etc/passwd\"}}",
        "{{getHostByName \"localhost\"}}",
        "{{bcrypt \"x\"}}",
        "{{genCA \"x\" 1}}",
    ] {
        assert_eq!(render(text, json!({})), Err(ErrorKind::Parse), "{text}");
    }
}

#[test]
fn nesting_is_bounded_before_the_stack_is() {
    let deep = |open: &str, close: &str| {
        let text = format!("{}1{}", open.repeat(5000), close.repeat(5000));
        Template::parse("deep", text)
            .map(|_| ())
            .map_err(|err| err.kind())
    };
    assert_eq!(deep("{{if true}}", "{{end}}"), Err(ErrorKind::Parse));
    assert_eq!(deep("{{print (", ")}}"), Err(ErrorKind::Parse));
    let parens = format!(
        "{{{{print {}1{}}}}}",
        "(print ".repeat(5000),
        ")".repeat(5000)
    );
    assert!(Template::parse("deep", parens).is_err());
    let mut elses = String::from("{{if false}}");
    elses.push_str(&"{{else if false}}".repeat(5000));
    elses.push_str("{{end}}");
    assert!(Template::parse("deep", elses).is_err());
}

#[test]
fn what_is_nested_and_calls_itself_is_stopped_before_the_stack_ends() {
    let blocks = |inner: &str| {
        format!(
            "{}{inner}{}",
            "{{if true}}".repeat(90),
            "{{end}}".repeat(90)
        )
    };
    let parens = |inner: &str| {
        format!(
            "{}{inner}{}",
            "{{print ".to_owned() + &"(print ".repeat(90),
            ")".repeat(90) + "}}"
        )
    };
    let body = format!("{}{}", parens("1"), blocks("{{template \"r\"}}"));
    let text = format!("{{{{define \"r\"}}}}{body}{{{{end}}}}{{{{template \"r\"}}}}");
    is_stopped(String::leak(text));
}

#[test]
fn data_is_never_changed() {
    let document = json!({"m": {"a": 1}, "l": [1]});
    let template = Template::parse(
        "t",
        "{{set .m \"a\" 2}}{{set . \"x\" 1}}{{unset .m \"b\"}}{{.m.a}}",
    )
    .unwrap();
    let meta = json!({"secret": {"k": 1}});
    let besides = [("_tyk_meta", Input::Json(&meta))];
    let first = template.render_with(&document, &besides).unwrap();
    assert_eq!(first, template.render_with(&document, &besides).unwrap());
    assert_eq!(document, json!({"m": {"a": 1}, "l": [1]}));
    assert_eq!(meta, json!({"secret": {"k": 1}}));
}

#[test]
fn errors_tell_the_place_and_no_value() {
    let template = Template::parse("orders", "{\n  \"a\": {{ .secret | upper }}\n}").unwrap();
    let err = template
        .render(&json!({"secret": ["hunter2"]}))
        .unwrap_err();
    assert_eq!((err.name(), err.line(), err.column()), ("orders", 2, 21));
    assert!(!err.to_string().contains("hunter2"), "{err}");
    for text in [
        "{{range .secret}}{{end}}",
        "{{fail .secret}}",
        "{{index .secret 0 1}}",
        "{{.secret.x}}",
    ] {
        let template = Template::parse("t", text).unwrap();
        let err = template.render(&json!({"secret": "hunter2"})).unwrap_err();
        assert!(!err.to_string().contains("hunter2"), "{err}");
    }
    let err = Template::parse("orders", "line\n{{ .a.b | nope }}").unwrap_err();
    assert_eq!(
        err.to_string(),
        "template: orders:2:11: function \"nope\" not defined"
    );
}

#[test]
fn attack_44_documents_that_are_bombs_are_refused() {
    let bomb = "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><a>&b;</a>";
    let external = "<!DOCTYPE a [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><a>&a;</a>";
    let deep = "<a>".repeat(100_000);
    for text in [bomb, external, &deep] {
        assert!(xml(text.as_bytes(), MixedContent::Joined).is_err());
    }
    let mut many = String::from("<a");
    for number in 0..100_000 {
        many.push_str(&format!(" a{number}=\"\""));
    }
    many.push_str("/>");
    let read = xml(many.as_bytes(), MixedContent::Joined).unwrap();
    assert_eq!(read["a"].as_object().unwrap().len(), 100_000);
    // Each of these is a map.
    let maps = |times: usize| format!("<r>{}</r>", "<a b=\"\"/>".repeat(times));
    assert!(xml(maps(10_000).as_bytes(), MixedContent::Joined).is_ok());
    assert!(xml(maps(200_000).as_bytes(), MixedContent::Joined).is_err());
}

#[test]
fn text_beside_elements_is_kept_unless_tyk_is_followed() {
    let read = |mixed| xml(b"<a>one<b/>two<![CDATA[three]]></a>", mixed).unwrap();
    assert_eq!(
        read(MixedContent::Joined),
        json!({"a": {"b": "", "#text": "onetwothree"}})
    );
    assert_eq!(read(MixedContent::Tyk), json!({"a": "one"}));
}
