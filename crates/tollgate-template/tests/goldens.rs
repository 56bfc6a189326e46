//! What Go's `text/template`, with sprig and mxj, printed for the same documents.
#![expect(clippy::unwrap_used, reason = "a test")]

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value as Json;
use tollgate_template::{Input, Limits, MixedContent, Options, RenderError, json, xml};

/// How many of the cases that count must be as recorded.
const LEAST: f64 = 0.99;

/// A recorded rendering.
#[derive(serde::Deserialize)]
struct Golden {
    name: String,
    template: String,
    input_type: String,
    input: Option<String>,
    input_base64: Option<String>,
    meta: Option<Json>,
    output: Option<String>,
    output_base64: Option<String>,
    error: Option<String>,
    /// What is wrong with the reference: such a case need not match.
    defect: Option<String>,
}

/// What came of a case: the text, or the class of the error.
type Outcome = Result<Vec<u8>, String>;

/// What is no UTF-8 is there in base64.
fn bytes(text: Option<&String>, in_base64: Option<&String>) -> Vec<u8> {
    match in_base64 {
        Some(text) => STANDARD.decode(text).unwrap(),
        None => text.unwrap().as_bytes().to_vec(),
    }
}

impl Golden {
    fn input(&self) -> Vec<u8> {
        bytes(self.input.as_ref(), self.input_base64.as_ref())
    }

    fn expected(&self) -> Outcome {
        if let Some(class) = &self.error {
            return Err(class.clone());
        }
        Ok(bytes(self.output.as_ref(), self.output_base64.as_ref()))
    }

    fn play(&self) -> Outcome {
        let options = Options::new().with_costly_functions();
        let options = options.with_limits(Limits {
            output: 1 << 20,
            ..Limits::default()
        });
        let template = options.parse("", &self.template).map_err(|_| "parse")?;
        let input = self.input();
        let meta = self
            .meta
            .as_ref()
            .map(|meta| [("_tyk_meta", Input::Json(meta))]);
        let besides = meta.as_ref().map_or(&[][..], |meta| meta);
        let rendered = match &*self.input_type {
            "xml" => {
                let document = xml(&input, MixedContent::Tyk).map_err(|_| "input")?;
                template.render_with(&document, besides)
            }
            _ => {
                let read = template.render_json(&input, besides, &|_| String::new());
                let read = read.map_err(|err| match err {
                    RenderError::Input(_) => None,
                    RenderError::Template(err) => Some(err),
                });
                if !self.is_random() {
                    let by_tree = json(&input).map_err(|_| None);
                    let by_tree =
                        by_tree.and_then(|tree| template.render_with(&tree, besides).map_err(Some));
                    assert_eq!(read, by_tree, "{}", self.name);
                }
                match read {
                    Err(None) => return Err("input".into()),
                    Err(Some(err)) => Err(err),
                    Ok(text) => Ok(text),
                }
            }
        };
        rendered.map_err(|err| {
            assert_eq!(err.line() > 0, err.column() > 0, "{err}");
            "exec".into()
        })
    }

    /// Whether two renderings need not be the same.
    fn is_random(&self) -> bool {
        const NAMES: [&str; 8] = [
            "rand", "shuffle", "uuid", "now", "crypt", "htpasswd", "ago", "gen",
        ];
        NAMES.iter().any(|name| self.template.contains(name))
    }
}

/// Those of functions that are there with a feature alone.
fn is_there(golden: &Golden) -> bool {
    const COSTLY: [&str; 6] = [
        "bcrypt",
        "htpasswd",
        "derivePassword",
        "gen",
        "Cert",
        "mustCert",
    ];
    cfg!(feature = "costly") || !COSTLY.iter().any(|name| golden.template.contains(name))
}

#[test]
fn templates_print_what_go_prints() {
    let goldens: Vec<Golden> =
        serde_json::from_str(include_str!("conformance/templates.json")).unwrap();
    let (mut counted, mut same, mut told) = (0, 0, Vec::new());
    for golden in goldens.iter().filter(|golden| is_there(golden)) {
        let (expected, found) = (golden.expected(), golden.play());
        let is_same = expected == found;
        if golden.defect.is_none() {
            counted += 1;
            same += usize::from(is_same);
            if !is_same {
                let shown = |outcome: &Outcome| match outcome {
                    Ok(text) => format!("{:?}", String::from_utf8_lossy(text)),
                    Err(class) => format!("error: {class}"),
                };
                let (name, template) = (&golden.name, &golden.template);
                let (expected, found) = (shown(&expected), shown(&found));
                told.push(format!(
                    "{name}: {template}\n  recorded {expected}\n  printed  {found}"
                ));
            }
        }
    }
    println!("{same} of {counted} are as recorded");
    let told = told.join("\n");
    assert!(
        f64::from(same as u32) >= LEAST * f64::from(counted),
        "{same} of {counted}\n{told}"
    );
    assert!(
        told.is_empty() || std::env::var_os("TOLLGATE_GOLDENS").is_none(),
        "{told}"
    );
}

/// What Go 1.26 prints with sprig 3.3, for odd arguments that the record has not.
#[test]
fn odd_arguments_print_what_go_prints() {
    let cases = [
        // Verbs, their flags, and numbers for them.
        (
            r#"{{printf "%w %#w" (list 1) "a"}}"#,
            Ok("%!w([]interface {}=[1]) %!w(string=\"a\")"),
        ),
        (r#"{{printf "%#O %#O" 8 0}}"#, Ok("0o010 0o0")),
        (
            r#"{{printf "%.*f|%.*d" -1 1.5 -2 3}}"#,
            Ok("%!(BADPREC)1.500000|%!(BADPREC)3"),
        ),
        (
            r#"{{printf "%05x|%-5x|%5X" "a" "b" "c"}}"#,
            Ok("00061|62   |   63"),
        ),
        (
            r#"{{printf "%#x|%#X|%#.2x" 0.0 1.0 1.5}}"#,
            Ok("0x0.0000p+00|0X1.P+00|0x1.80p+00"),
        ),
        (r#"{{printf "%d %-." 1 2}}"#, Ok("1 %!.(int=2)")),
        (
            r#"{{printf "%.70000f" 1.5 | len}} {{printf "%.70000e" 1.5 | len}} {{printf "%.70000U" 1 | len}}"#,
            Ok("70002 70006 70002"),
        ),
        // Expressions.
        (
            r#"{{regexReplaceAll "\\p{Lu}+" "aBCd" "-"}} {{regexMatch "^\\x{e9}$" "é"}} {{regexFind "\\p{Greek}" "aλ"}}"#,
            Ok("a-d true λ"),
        ),
        (
            r#"{{regexReplaceAll "x*" "aé" "-"}} {{regexFindAll "" "é" -1 | len}} {{regexSplit "" "é1" -1}}"#,
            Ok("-a-é- 2 [é 1]"),
        ),
        (
            r#"{{regexReplaceAll "[[:punct:]+--]" "a,b+c" "_"}}"#,
            Ok("a_b_c"),
        ),
        (r#"{{regexFind "(?x)a" "a"}}"#, Err(())),
        (r#"{{regexFind "[a--b]" "a"}}"#, Err(())),
        (r#"{{regexFind "\\p{Script=Greek}" "λ"}}"#, Err(())),
        // Encodings that are broken.
        (
            r#"{{b64dec "YWJ j"}}|{{b64dec "YWJ"}}|{{b64dec "YW=j"}}|{{b64dec "YWJj="}}"#,
            Ok(
                "illegal base64 data at input byte 3|illegal base64 data at input byte 0|illegal base64 data at input byte 2|illegal base64 data at input byte 4",
            ),
        ),
        (
            r#"{{b32dec "MFRGG"}}|{{b32dec "mf"}}|{{b32dec "MFRGG=="}}|{{b32dec "MFRGG===x"}}"#,
            Ok(
                "illegal base32 data at input byte 0|illegal base32 data at input byte 0|illegal base32 data at input byte 7|abc",
            ),
        ),
        // Variables: what a new one is set to knows the one before.
        (
            r#"{{$x := 1}}{{$x := add $x 1}}{{$x}} {{if $x := not $x}}{{else}}{{$x}}{{end}} {{$x}}"#,
            Ok("2 false 2"),
        ),
        (
            r#"{{$x := list 1 2}}{{range $i, $x := $x}}{{$i}}{{$x}}{{end}}{{with $x := len $x}}{{$x}}{{end}}{{$x}}"#,
            Ok("01122[1 2]"),
        ),
        (r#"{{$x := ($y := 3) | print $y}}{{$x}}"#, Ok("3 3")),
        (r#"{{$x := $x}}"#, Err(())),
        (r#"{{range $i, $x := index "a" 0}}x{{end}}"#, Err(())),
        // The rest.
        (
            r#"{{unset .missing "a"}} {{camelcase "--"}}"#,
            Ok("map[] ---"),
        ),
        (r#"{{chunk 0 (list)}}"#, Err(())),
        (
            r#"{{with toDate "2006-01-02T15:04:05Z07:00" "2024-07-15T01:02:03+02:00"}}{{.Local}}{{end}}"#,
            Ok("2024-07-14 23:02:03 +0000 UTC"),
        ),
    ];
    for (text, expected) in cases {
        let template = Options::new().parse("", text).unwrap();
        let rendered = template.render(&serde_json::json!({}));
        let rendered = rendered.map(|text| String::from_utf8(text).unwrap());
        assert_eq!(
            rendered.map_err(drop).as_deref(),
            expected.as_deref(),
            "{text}"
        );
    }
}

#[test]
fn broken_documents_are_read_as_in_go() {
    let read = |text: &str| xml(text.as_bytes(), MixedContent::Tyk).ok();
    let a = |text: &str| Some(serde_json::json!({"a": text}));
    for (text, expected) in [
        ("<a>&#xD800;</a>", a("\u{fffd}")),
        ("<?xml encoding='utf-8'?><a>x</a>", a("x")),
        ("<?xml version='1.1'?><a/>", None),
        ("junk<a/>", a("")),
        ("]]><a/>", None),
        ("\0<a/>", None),
    ] {
        assert_eq!(read(text), expected, "{text:?}");
    }
    let broken = b"[\"\xe2\x80\"]";
    assert_eq!(
        json(broken).unwrap(),
        serde_json::json!({"array": ["\u{fffd}\u{fffd}"]})
    );
}
