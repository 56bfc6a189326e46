use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, Full};
use tollgate_core::access::PathOptions;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::buffer::ReplayBody;

type Whole = Full<Bytes>;

/// What a service behind the layer got, and what the client got.
struct Exchange {
    got: Option<(HeaderMap, String)>,
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

async fn text<B: http_body::Body>(body: B) -> String {
    let bytes = body.collect().await.ok().unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn exchange(
    layer: &BodyTransformLayer,
    request: Request<Whole>,
    answer: Response<Whole>,
) -> Exchange {
    let got = Arc::new(std::sync::Mutex::new(None));
    let noted = got.clone();
    let answer = Arc::new(std::sync::Mutex::new(Some(answer)));
    let service = layer.layer(service_fn(move |request: Request<ReplayBody<Whole>>| {
        let (noted, answer) = (noted.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = text(body).await;
            *noted.lock().unwrap() = Some((head.headers, body));
            Ok::<_, Infallible>(answer.lock().unwrap().take().unwrap())
        }
    }));
    let response = service.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let got = got.lock().unwrap().take();
    Exchange {
        got,
        status: head.status,
        headers: head.headers,
        body: text(body).await,
    }
}

fn post(body: &'static str) -> Request<Whole> {
    Request::post("/orders?k=v")
        .header("content-length", body.len())
        .body(body.into())
        .unwrap()
}

fn answer(body: &'static str) -> Response<Whole> {
    Response::new(body.into())
}

fn names() -> BodyTransform {
    BodyTransform::parse("names", "<{{ .name | upper }}>").unwrap()
}

#[tokio::test]
async fn requests_and_responses_are_changed() {
    let there = exchange(
        &BodyTransformLayer::request(names()),
        post(r#"{"name": "ann"}"#),
        answer("ok"),
    )
    .await;
    let (headers, body) = there.got.unwrap();
    assert_eq!(
        (&*body, &headers[CONTENT_LENGTH], &*there.body),
        ("<ANN>", &"5".parse().unwrap(), "ok")
    );
    let mut old = answer(r#"{"name": "ann"}"#);
    old.headers_mut().insert("etag", "x".parse().unwrap());
    let back = exchange(&BodyTransformLayer::response(names()), post("{}"), old).await;
    assert_eq!((&*back.got.unwrap().1, &*back.body), ("{}", "<ANN>"));
    assert_eq!(back.headers[CONTENT_LENGTH], "5");
    assert_eq!(back.headers.get("etag"), None);
}

#[tokio::test]
async fn attack_46_a_transform_that_fails_is_never_passed_over_in_silence() {
    for (body, status) in [("{", 400), (r#"{"name": 1}"#, 500)] {
        let layer = BodyTransformLayer::request(names());
        let refused = exchange(&layer, post(body), answer("ok")).await;
        assert!(refused.got.is_none(), "{body}");
        assert_eq!(refused.status, status, "{body}");
        let layer = layer.on_error(OnTransformError::Forward);
        assert_eq!(
            exchange(&layer, post(body), answer("ok"))
                .await
                .got
                .unwrap()
                .1,
            body
        );
    }
    for (body, status) in [("secret: {", 502), (r#"{"name": 7, "secret": 1}"#, 500)] {
        let layer = BodyTransformLayer::response(names());
        let refused = exchange(&layer, post("{}"), answer(body)).await;
        assert_eq!(refused.status, status, "{body}");
        assert!(!refused.body.contains("secret"), "{}", refused.body);
        let layer = layer.on_error(OnTransformError::Forward);
        assert_eq!(exchange(&layer, post("{}"), answer(body)).await.body, body);
    }
}

#[tokio::test]
async fn attack_41_what_clients_send_is_never_taken_for_a_variable() {
    let template = "$tyk_context.path|{{ .x }}|$tyk_meta.secret|{{ ._tyk_meta.user }}";
    let transform = BodyTransform::parse("t", template)
        .unwrap()
        .with_session()
        .with_context();
    let body = r#"{"x": "$tyk_context.path $secret_env.A {{ ._tyk_meta.x }}", "_tyk_meta": {"user": "root"}}"#;
    let got = exchange(
        &BodyTransformLayer::request(transform),
        post(body),
        answer(""),
    )
    .await
    .got;
    let expected = "%2Forders|$tyk_context.path $secret_env.A {{ ._tyk_meta.x }}||<no value>";
    assert_eq!(got.unwrap().1, expected);
    assert!(BodyTransform::parse("t", "$secret_env.A").is_err());
}

#[tokio::test]
async fn attack_47_values_are_escaped_where_the_template_says_so() {
    let template = r#"{"raw":"{{ .x }}","x":{{ .x | jsonMarshal }},"q":"{{ .x | urlquery }}","h":"{{ .x | html }}"}"#;
    let layer = BodyTransformLayer::request(BodyTransform::parse("t", template).unwrap());
    let got = exchange(&layer, post(r#"{"x": "\",\"admin\":true"}"#), answer(""))
        .await
        .got;
    let body = got.unwrap().1;
    assert!(body.contains(r#""x":"\",\"admin\":true""#), "{body}");
    assert!(body.contains(r#""q":"%22%2C%22admin%22%3Atrue""#), "{body}");
    assert!(
        body.contains(r#""h":"&#34;,&#34;admin&#34;:true""#),
        "{body}"
    );
}

#[tokio::test]
async fn attack_45_large_bodies_are_refused_or_go_on_whole() {
    let layer = BodyTransformLayer::request(names()).with_limit(4);
    let refused = exchange(&layer, post("12345"), answer("")).await;
    assert_eq!(
        (refused.status.as_u16(), refused.got.is_none()),
        (413, true)
    );
    let layer = layer.on_error(OnTransformError::Forward);
    assert_eq!(
        exchange(&layer, post("12345"), answer(""))
            .await
            .got
            .unwrap()
            .1,
        "12345"
    );
    let layer = BodyTransformLayer::response(names()).with_limit(4);
    assert_eq!(
        exchange(&layer, post(""), answer("12345")).await.status,
        502
    );
}

#[tokio::test]
async fn what_no_transform_is_for_is_left_alone() {
    let layer = BodyTransformLayer::new().request_on("POST", "/x", PathOptions::default(), names());
    let layer = layer
        .unwrap()
        .response_on("GET", "/orders", PathOptions::default(), names())
        .unwrap();
    let other = exchange(&layer, post("{"), answer("{")).await;
    assert_eq!((&*other.got.unwrap().1, &*other.body), ("{", "{"));

    let layer = BodyTransformLayer::response(names());
    let mut stream = answer("data: {");
    stream.headers_mut().insert(
        "content-type",
        "text/event-stream; charset=utf-8".parse().unwrap(),
    );
    assert_eq!(exchange(&layer, post(""), stream).await.body, "data: {");
    let head = Request::head("/").body(Whole::default()).unwrap();
    assert_eq!(exchange(&layer, head, answer("")).await.status, 200);
    let mut empty = answer("");
    *empty.status_mut() = StatusCode::NO_CONTENT;
    assert_eq!(
        exchange(&layer, post(""), empty)
            .await
            .headers
            .get(CONTENT_LENGTH),
        None
    );
}

#[tokio::test]
async fn a_response_is_given_the_request_as_it_came() {
    let template = "{{ ._tyk_context.path }} {{ index ._tyk_context.path_parts 1 }} \
                    {{ ._tyk_context.request_data.Get \"k\" }} {{ ._tyk_context.headers_Content_Length }}";
    let transform = BodyTransform::parse("t", template).unwrap().with_context();
    let back = exchange(
        &BodyTransformLayer::response(transform),
        post("{}"),
        answer("{}"),
    )
    .await;
    assert_eq!(back.body, "/orders orders v 2");
}

#[test]
fn files_are_read_from_their_folder_alone() {
    let folder = std::env::temp_dir().join(format!("tollgate-templates-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("inner")).unwrap();
    std::fs::write(folder.join("a.tmpl"), "{{ .a }}").unwrap();
    std::fs::write(folder.join("inner/b.tmpl"), "{{ .a }}").unwrap();
    let read = |source: &str, folder: Option<&std::path::Path>| {
        let data = TemplateData {
            input_type: "json".into(),
            template_mode: "file".into(),
            template_source: source.into(),
            ..TemplateData::default()
        };
        data.transform(Side::Request, folder).is_ok()
    };
    for (source, is_read) in [
        ("a.tmpl", true),
        ("inner/b.tmpl", true),
        ("inner/../a.tmpl", false),
        ("../a.tmpl", false),
        ("/etc/hostname", false),
        ("inner", false),
        ("none.tmpl", false),
    ] {
        assert_eq!(read(source, Some(&folder)), is_read, "{source}");
    }
    assert!(read(folder.join("a.tmpl").to_str().unwrap(), Some(&folder)));
    assert!(!read("a.tmpl", None));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn entries_are_read_as_tyk_writes_them() {
    let paths = |data: &str| -> Result<BodyTransformLayer, TransformPathsError> {
        let text = format!(
            r#"{{"transform": [{{"path": "/get", "method": "GET", "fromDashboard": true, "template_data": {data}}}]}}"#
        );
        serde_json::from_str::<TransformPaths>(&text)
            .unwrap()
            .layer(None)
    };
    assert!(
        paths(r#"{"input_type": "json", "template_mode": "blob", "template_source": "Ymxvb3A="}"#)
            .is_ok()
    );
    for (data, cause) in [
        (
            r#"{"input_type": "yaml", "template_mode": "blob"}"#,
            "the input type is neither `json` nor `xml` nor `form`",
        ),
        (
            r#"{"input_type": "json"}"#,
            "No valid template mode defined, must be either 'file' or 'blob'",
        ),
        (
            r#"{"input_type": "json", "template_mode": "blob", "template_source": "e3s"}"#,
            "the template is not in base64",
        ),
        (
            r#"{"input_type": "json", "template_mode": "blob", "template_source": "e3s="}"#,
            "the template can not be followed",
        ),
    ] {
        let err = paths(data).unwrap_err();
        assert_eq!(err.to_string(), "transform[0]");
        assert_eq!(std::error::Error::source(&err).unwrap().to_string(), cause);
    }
}

#[tokio::test]
async fn what_was_refused_within_stays_as_it_is() {
    let xml = names().with_format(BodyFormat::Xml);
    let within = BodyTransformLayer::request(names());
    let service = BodyTransformLayer::response(xml).layer(within.layer(service_fn(
        async |_: Request<ReplayBody<ReplayBody<Whole>>>| Ok::<_, Infallible>(answer("ok")),
    )));
    let response = service.oneshot(post("no json")).await.unwrap();
    assert_eq!(response.status(), 400);
    let body = text(response.into_body()).await;
    assert!(body.contains("Request body can not be read"), "{body}");
}
