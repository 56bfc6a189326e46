//! What the transform of one body holds at most, counted: it is twice the cap and a floor, whatever the body and the
//! template.

use std::{convert::Infallible, io::Write};

use bytes::Bytes;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tollgate::{
    body_transform::{BodyFormat, BodyTransform, BodyTransformLayer, Memory},
    buffer::{Read, ReplayBody, read},
};
use tower::{Layer, Service, service_fn};

/// Where a body is transformed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    There,
    Back,
}

/// A transform of one body: what it answers, and how much is held at most while it is under way, with the body as it
/// came, which is the client's.
fn held(
    transform: &BodyTransform,
    way: Way,
    cap: usize,
    body: &Bytes,
    coding: &'static str,
) -> (u16, usize) {
    let layer = match way {
        Way::There => BodyTransformLayer::request(transform.clone()),
        Way::Back => BodyTransformLayer::response(transform.clone()),
    };
    let coded = (
        HeaderName::from_static("content-encoding"),
        HeaderValue::from_static(coding),
    );
    let answers = coded.clone();
    let mut service = layer.with_limit(cap).layer(service_fn(
        move |request: Request<ReplayBody<Full<Bytes>>>| {
            let (name, coding) = answers.clone();
            async move {
                let body = request.into_body().collect().await.expect("whole");
                let mut response = Response::new(Full::new(body.to_bytes()));
                if way == Way::Back {
                    response.headers_mut().insert(name, coding);
                }
                Ok::<_, Infallible>(response)
            }
        },
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut request = Request::new(Full::new(body.clone()));
    if way == Way::There {
        request.headers_mut().insert(coded.0, coded.1);
    }
    let mut status = 0;
    let measured = allocation_counter::measure(|| {
        let response = runtime.block_on(service.call(request));
        status = response.expect("an answer").status().as_u16();
    });
    let most = usize::try_from(measured.bytes_max).expect("a size");
    (status, body.len() + most)
}

/// Asserts that no more is held than there may be, and gives the answer.
#[track_caller]
fn within(transform: &BodyTransform, cap: usize, body: &Bytes, coding: &'static str) -> u16 {
    let mut most = 2 * cap + Memory::FLOOR;
    if coding != "identity" {
        most += Memory::CODEC;
    }
    let [there, back] = [Way::There, Way::Back].map(|way| {
        let (status, is) = held(transform, way, cap, body, coding);
        assert!(is <= most, "{way:?} {transform:?} {coding}: {is} of {most}");
        status
    });
    let same = match there {
        400 | 413 => 502,
        status => status,
    };
    assert_eq!(back, same, "{transform:?}");
    there
}

/// As many as fit into so many bytes.
fn list_of(item: &str, cap: usize) -> String {
    let times = (cap - 2) / (item.len() + 1);
    format!("[{}{item}]", format!("{item},").repeat(times - 1))
}

const ORDER: &str =
    r#"{"id": 71823, "name": "a chair of oak", "price": 129.5, "tags": ["new", "wood"]}"#;

const ORDER_IN_XML: &str = "<order id=\"71823\"><name>a chair of oak</name><price>129.5</price>\
    <tag>new</tag><tag>wood</tag></order>";

const ORDER_IN_A_FORM: &str = "&id=71823&name=a+chair+of+oak";

fn elements_of(item: &str, size: usize) -> String {
    format!("<r>{}</r>", item.repeat((size - 7) / item.len()))
}

/// Bodies of nearly this size, of things that take much for their text.
fn bodies(cap: usize) -> Vec<(&'static str, BodyFormat, String)> {
    use BodyFormat::{Form, Json, Xml};
    let elements = |item| elements_of(item, cap);
    let text = format!("\"{}\"", "words and words ".repeat(16));
    let long = "x".repeat(cap - 20);
    let members: Vec<_> = (0..(cap - 14) / 13)
        .map(|at| format!("\"k{at:06}\":{{}}"))
        .collect();
    let attributes: Vec<_> = (0..(cap - 5) / 11)
        .map(|at| format!("a{at:06}=\"\""))
        .collect();
    let deep = format!("{}7{}", "[".repeat(100), "]".repeat(100));
    vec![
        ("texts", Json, list_of(&text, cap)),
        ("one text", Json, format!("[\"{long}\"]")),
        ("one escape", Json, format!("[\"{}\\n\"]", &long[20..])),
        ("escapes", Json, list_of(r#""\n\t\u00e9""#, cap)),
        ("orders", Json, list_of(ORDER, cap)),
        ("numbers", Json, list_of("7", cap)),
        ("fractions", Json, list_of("0.1", cap)),
        ("objects", Json, list_of(r#"{"":0}"#, cap)),
        ("empty", Json, list_of("{}", cap)),
        ("deep", Json, list_of(&deep, cap)),
        (
            "members",
            Json,
            format!("{{\"array\":{{{}}}}}", members.join(",")),
        ),
        ("broken", Json, format!("{}x", list_of("7", cap - 1))),
        ("orders in XML", Xml, elements(ORDER_IN_XML)),
        ("elements", Xml, elements("<b/>")),
        ("attributes", Xml, elements("<b c=\"\"/>")),
        (
            "many attributes",
            Xml,
            format!("<r {}/>", attributes.join(" ")),
        ),
        ("mixed", Xml, elements("x<b/>")),
        ("one element", Xml, format!("<r>{}</r>", &long[20..])),
        ("entities", Xml, elements("&amp;x")),
        ("form", Form, list_of_fields(ORDER_IN_A_FORM, cap)),
        ("fields", Form, list_of_fields("&a=", cap)),
        ("coded fields", Form, list_of_fields("&a=%20%21", cap)),
        (
            "one field",
            Form,
            format!("a={}", "%41".repeat(cap / 3 - 2)),
        ),
    ]
}

fn list_of_fields(field: &str, cap: usize) -> String {
    field.repeat(cap / field.len())
}

const TEMPLATES: [(&str, &str); 16] = [
    ("nothing", "x"),
    ("counts", "{{ len . }}{{ with .array }}{{ len . }}{{ end }}"),
    ("JSON", "{{ . | jsonMarshal }}"),
    ("JSON twice", "{{ . | jsonMarshal }}{{ . | jsonMarshal }}"),
    ("JSON kept", "{{ $x := jsonMarshal . }}{{ len $x }}"),
    ("XML", "{{ . | xmlMarshal }}"),
    ("prints", "{{ . }}"),
    ("printf", "{{ printf \"%v %v\" . . }}"),
    (
        "loop",
        "{{ range . }}{{ range . }}{{ . }},{{ end }}{{ end }}",
    ),
    ("names", "{{ range .array }}{{ .name }}{{ .id }}\n{{ end }}"),
    (
        "repeats",
        "{{ repeat 100000 \"0123456789\" | upper }}{{ range until 20000 }}{{ repeat 20 \"x\" }}{{ end }}",
    ),
    (
        "lists",
        "{{ $l := list 1 }}{{ range 25 }}{{ $l = concat $l $l }}{{ end }}",
    ),
    (
        "dicts",
        "{{ $d := dict }}{{ range $k, $v := .array }}{{ $_ := set $d (print $k) $v }}{{ end }}{{ len $d }}",
    ),
    (
        "turns",
        "{{ with .array }}{{ len (reverse .) }}{{ len (uniq (list . .)) }}{{ end }}",
    ),
    (
        "copies",
        "{{ $x := deepCopy . }}{{ $y := deepCopy . }}{{ len (toJson $x) }}{{ len $y }}",
    ),
    (
        "texts",
        "{{ $t := toString . }}{{ len (upper $t) }}{{ len (splitList \",\" $t) }}{{ len (replace \",\" \"---\" $t) }}{{ len (html $t) }}",
    ),
];

/// What of [`TEMPLATES`] is written of each of [`bodies`]: what is not takes too much (`-`), fails for another reason
/// (`!`), or is of a body that is broken (`x`).
const WRITTEN: [(&str, &str); 23] = [
    ("texts", "+++---+-+!--++--"),
    ("one text", "+++--++-+!--++--"),
    ("one escape", "----------------"),
    ("escapes", "+++---+-+!------"),
    ("orders", "+++---+-++------"),
    ("numbers", "+++---+-+!------"),
    ("fractions", "+++---+-+!------"),
    ("objects", "+++--!----------"),
    ("empty", "+++-------------"),
    ("deep", "+++--++-+!--++--"),
    ("members", "+------------!--"),
    ("broken", "xxxxxxxxxxxxxxxx"),
    ("orders in XML", "----------------"),
    ("elements", "----------------"),
    ("attributes", "----------------"),
    ("many attributes", "----------------"),
    ("mixed", "----------------"),
    ("one element", "+++--++-!+--++--"),
    ("entities", "++----+-!+--++--"),
    ("form", "----------------"),
    ("fields", "----------------"),
    ("coded fields", "----------------"),
    ("one field", "----------------"),
];

#[test]
fn what_a_transform_holds_is_bounded_by_the_body() {
    const CAP: usize = 128 << 10;
    let transforms =
        TEMPLATES.map(|(does, template)| BodyTransform::parse(does, template).expect(does));
    // What happens once, happens before.
    for transform in &transforms {
        held(
            transform,
            Way::There,
            CAP,
            &Bytes::from_static(b"{\"array\":[]}"),
            "identity",
        );
    }
    for (at, (name, format, body)) in bodies(CAP).into_iter().enumerate() {
        assert!(
            CAP - 200 <= body.len() && body.len() <= CAP,
            "{name}: {}",
            body.len()
        );
        let body = Bytes::from(body);
        let written: String = transforms
            .iter()
            .map(|transform| {
                match within(
                    &transform.clone().with_format(format),
                    CAP,
                    &body,
                    "identity",
                ) {
                    200 => '+',
                    400 => 'x',
                    413 => '-',
                    _ => '!',
                }
            })
            .collect();
        assert_eq!((name, &*written), WRITTEN[at]);
    }
}

#[test]
fn a_body_in_many_pieces_takes_no_more() {
    const CAP: usize = 256 << 10;
    for length in [1, 7, 1000, 4095, 4096, 20_000, CAP] {
        let pieces = (0..CAP / length).map(move |_| {
            let piece = Bytes::from(vec![b'x'; length]);
            Ok::<_, Infallible>(Frame::data(piece))
        });
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let mut is_whole = false;
        let measured = allocation_counter::measure(|| {
            is_whole = matches!(runtime.block_on(read(body, CAP)), Read::Whole(_));
        });
        assert!(is_whole, "{length}");
        let is = usize::try_from(measured.bytes_max).expect("a size");
        assert!(is <= 2 * CAP + Memory::FLOOR, "{length}: {is}");
    }
}

#[test]
fn a_small_cap_leaves_room_for_what_is_small() {
    const CAP: usize = 1 << 10;
    let writes = BodyTransform::parse("t", "{{ . | jsonMarshal }}").expect("a template");
    let [json, form] = [list_of(ORDER, CAP), ORDER_IN_A_FORM.repeat(20)];
    let xml = elements_of(ORDER_IN_XML, CAP);
    for (format, body) in [
        (BodyFormat::Json, json),
        (BodyFormat::Xml, xml),
        (BodyFormat::Form, form),
    ] {
        for coding in ["identity", "gzip", "deflate", "zstd", "br"] {
            let body = match coding {
                "identity" => body.clone().into_bytes(),
                _ => coded(coding, body.as_bytes()),
            };
            let transform = writes.clone().with_format(format);
            let status = within(&transform, CAP, &body.into(), coding);
            assert_eq!(status, 200, "{format:?} {coding}");
        }
    }
}

/// A stream of Brotli that asks for a window of 4 MiB and compresses nothing.
fn brotli(text: &[u8]) -> Vec<u8> {
    const WINDOW: (u64, u32) = (0b1011, 4);
    let mut out = Vec::new();
    let (mut bits, mut count) = WINDOW;
    for block in text.chunks(1 << 16) {
        // Not the last, a length of 16 bits, not compressed.
        let length = block.len() as u64 - 1;
        bits |= (length << 3 | 1 << 19) << count;
        count += 20;
        out.extend_from_slice(&bits.to_le_bytes()[..count.div_ceil(8) as usize]);
        out.extend_from_slice(block);
        (bits, count) = (0, 0);
    }
    out.push(3);
    out
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let level = Compression::default();
    match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        "br" => brotli(body),
        _ => compress_to_vec(body, CompressionLevel::Fastest),
    }
}

#[test]
fn what_a_transform_of_a_coded_body_holds_is_bounded_too() {
    const CAP: usize = 512 << 10;
    let transform = |text| BodyTransform::parse("t", text).expect("a template");
    let (counts, writes) = (
        transform("{{ len .array }}"),
        transform("{{ .array | jsonMarshal }}"),
    );
    for coding in ["gzip", "deflate", "zstd", "br"] {
        for part in [16, 8, 4, 2, 1] {
            let body = list_of(ORDER, CAP / part);
            let body = Bytes::from(coded(coding, body.as_bytes()));
            // What is not compressed, but asks for a large window, is held three times.
            let expected = match (coding, part) {
                ("br", 1) => 413,
                _ => 200,
            };
            for transform in [&counts, &writes] {
                let status = within(transform, CAP, &body, coding);
                assert_eq!(status, expected, "{coding} 1/{part}");
            }
        }
    }
    for coding in ["gzip", "deflate", "zstd"] {
        let bomb = Bytes::from(coded(coding, &vec![b' '; 4 * CAP]));
        assert_eq!(within(&counts, CAP, &bomb, coding), 413, "{coding}");
    }
}

/// The largest list of orders for which a template is rendered, in parts of the cap.
fn largest(template: &str, format: BodyFormat, cap: usize) -> f64 {
    const PARTS: usize = 64;
    let transform = BodyTransform::parse("t", template)
        .expect("a template")
        .with_format(format);
    let (mut fits, mut does_not) = (0, PARTS + 1);
    while does_not - fits > 1 {
        let part = usize::midpoint(fits, does_not);
        let size = cap * part / PARTS;
        let body = match format {
            BodyFormat::Json => list_of(ORDER, size),
            BodyFormat::Xml => elements_of(ORDER_IN_XML, size),
            _ => ORDER_IN_A_FORM.repeat(size / ORDER_IN_A_FORM.len()),
        };
        match held(&transform, Way::There, cap, &Bytes::from(body), "identity").0 {
            200 => fits = part,
            _ => does_not = part,
        }
    }
    fits as f64 / PARTS as f64
}

#[test]
fn ordinary_bodies_may_be_almost_as_large_as_the_cap() {
    let [json, xml, form] = [BodyFormat::Json, BodyFormat::Xml, BodyFormat::Form];
    let least = [
        ("{{ len .array }}", json, 1.0),
        ("{{ range .array }}{{ .id }},{{ end }}", json, 1.0),
        ("{{ .array | jsonMarshal }}", json, 0.95),
        ("{{ len . }}", xml, 0.35),
        ("{{ . | xmlMarshal }}", xml, 0.35),
        ("{{ len . }}", form, 0.2),
    ];
    for cap in [256 << 10, 1 << 20] {
        for (template, format, least) in least {
            let is = largest(template, format, cap);
            println!("{format:?} at {cap}, {template}: {is}");
            assert!(is >= least, "{format:?} at {cap}, {template}: {is}");
        }
    }
}
