//! The OpenAPI document: what it lists is served, what is served it lists.

use std::collections::BTreeSet;

use crate::support::*;

const METHODS: [&str; 5] = ["DELETE", "GET", "PATCH", "POST", "PUT"];

async fn document(api: &Api) -> Value {
    let answer = api.get("/v1/openapi.json", None).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].to_str().unwrap().contains("json"));
    answer.json()
}

#[tokio::test]
async fn the_document_lists_exactly_the_routes_of_the_protocol() {
    let room = Room::open().await;
    let document = document(&room.api).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut listed = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        // Names of parameters are the document's own.
        let path = path
            .replace("{session}", "{id}")
            .replace("{session_id}", "{id}")
            .replace("{poll}", "{n}");
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            if METHODS.contains(&method.as_str()) {
                listed.insert((path.clone(), method));
            }
        }
    }
    let expected: BTreeSet<(String, String)> = plenum::http::ROUTES
        .iter()
        .flat_map(|(path, methods)| {
            methods.iter().map(|method| (path.to_string(), method.to_string()))
        })
        .collect();
    assert_eq!(listed, expected);
}

/// Without a token: an unknown path is 404, an unknown method 405, all else is something else.
#[tokio::test]
async fn the_server_takes_exactly_the_methods_that_are_listed() {
    let room = Room::open().await;
    let poll = room.draft(choice(2)).await;
    let nothing = ("/v1/sessions/{id}/nothing", &[][..]);
    for (path, methods) in plenum::http::ROUTES.iter().copied().chain([nothing]) {
        let path = path.replace("{id}", &room.id).replace("{n}", &poll.to_string());
        for method in METHODS {
            let answer = room.api.call(method, &path, None, None).await.unwrap();
            let expected = match (methods.is_empty(), methods.contains(&method)) {
                (true, _) => answer.status == 404,
                (false, true) => ![404, 405].contains(&answer.status) && answer.status < 500,
                (false, false) => answer.status == 405,
            };
            assert!(expected, "{method} {path}: {}", answer.status);
        }
    }
}

/// With a presenter's or participant's token every listed call finds its way to an answer.
#[tokio::test]
async fn every_listed_call_succeeds_for_someone() {
    let room = Room::open().await;
    let member = room.join().await;
    let (draft, open) = (room.draft(choice(2)).await, room.choice(2).await);
    let by = &room.presenter;
    let vote = json!({"id": fresh_id(), "poll": open, "answer": pick(0)});
    for (method, rest, token, body, status) in [
        ("GET", String::new(), by, Value::Null, 200),
        ("PATCH", String::new(), by, json!({"title": "x"}), 200),
        ("POST", "/polls".to_owned(), by, choice(2), 201),
        ("GET", "/polls".to_owned(), by, Value::Null, 200),
        ("GET", format!("/polls/{draft}"), by, Value::Null, 200),
        ("PATCH", format!("/polls/{draft}"), by, json!({"question": "?"}), 200),
        ("POST", format!("/polls/{open}/open"), by, Value::Null, 200),
        ("POST", "/votes".to_owned(), &member.token, vote, 201),
        ("GET", format!("/polls/{open}/results"), by, Value::Null, 200),
        ("POST", format!("/polls/{open}/close"), by, Value::Null, 200),
        ("GET", "/events".to_owned(), by, Value::Null, 200),
        ("GET", "/export".to_owned(), by, Value::Null, 200),
        ("DELETE", format!("/polls/{draft}"), by, Value::Null, 204),
        ("DELETE", String::new(), by, Value::Null, 204),
    ] {
        let answer = room.call(method, &rest, token, body).await;
        assert_eq!(answer.status, status, "{method} {rest}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let room = Room::open().await;
    let document = document(&room.api).await;
    let mut seen = 0;
    let mut waiting = vec![&document];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer =
                        reference.strip_prefix('#').expect("a reference into the document");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                    seen += 1;
                }
                waiting.extend(map.values());
            }
            Value::Array(list) => waiting.extend(list),
            _ => {}
        }
    }
    assert!(seen > 10, "{seen} references");
}

/// What a client generated from the document would expect of the two main objects.
#[tokio::test]
async fn answers_have_the_fields_that_the_document_requires() {
    let room = Room::open().await;
    let document = document(&room.api).await;
    let poll = room.draft(choice(2)).await;
    let poll = room.present("GET", &format!("/polls/{poll}"), Value::Null).await;
    let session = room.get("", &room.presenter).await.json();
    for (name, value) in [("Session", &session), ("Poll", &poll)] {
        let schema = &document["components"]["schemas"][name];
        assert!(schema.is_object(), "no schema {name}");
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(
                value.get(field.as_str().unwrap()).is_some(),
                "{name} without {field}: {value}"
            );
        }
    }
}
