//! Export: every poll and every vote, as JSON and as CSV that a spreadsheet cannot be fooled by.

use std::collections::HashMap;

use crate::support::*;

/// A session with odd texts and one vote of each kind.
async fn voted() -> (Room, Vec<Value>) {
    let room = Room::open().await;
    room.retitle("=HYPERLINK(\"http://x\"),\"a\"\nb").await;
    let mut several = json!({"kind": "choice", "question": "@SUM(1)", "options": ["+1", "-2\r\n", "=cmd|' /C calc'!A0", "\tx"]});
    several["max_choices"] = json!(2);
    let polls = [
        room.poll(several).await,
        room.poll(json!({"kind": "rating", "question": "=1+1", "max": 5})).await,
    ];
    room.draft(choice(2)).await;
    let mut votes = Vec::new();
    for (poll, answer) in [
        (polls[0], json!({"choices": [0]})),
        (polls[0], json!({"choices": [1, 2]})),
        (polls[1], json!({"rating": 4})),
    ] {
        let mut guest = room.guest().await;
        let ack = guest.cast(poll, answer.clone()).await;
        assert_eq!(ack["type"], "ack", "{ack}");
        votes.push(json!({
            "id": ack["id"], "poll": poll, "participant": guest.id, "answer": answer, "seq": ack["seq"],
        }));
    }
    (room, votes)
}

#[tokio::test]
async fn json_holds_the_session_every_poll_and_every_vote() {
    let (room, votes) = voted().await;
    for path in ["/export?format=json", "/export"] {
        let answer = room.get(path, &room.presenter).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/json"));
        let export = answer.json();
        assert_eq!(
            (&export["session"]["id"], &export["session"]["code"]),
            (&json!(room.id), &json!(room.code))
        );
        assert!(!has_key(&export, "presenter_token") && !has_key(&export, "token"));
        let polls = room.present("GET", "/polls", Value::Null).await;
        assert_eq!(export["polls"], polls["polls"]);
        let mut exported = export["votes"].as_array().unwrap().clone();
        for vote in &mut exported {
            assert!(crate::rest_sessions::is_time(&vote["at"]), "{vote}");
            vote.as_object_mut().unwrap().remove("at");
        }
        exported.sort_by_key(|vote| vote["seq"].as_i64());
        assert_eq!(exported, votes);
    }
}

/// Reads CSV as RFC 4180 says.
fn read_csv(text: &[u8]) -> Vec<HashMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text);
    let head: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let row =
        |row: csv::StringRecord| head.iter().cloned().zip(row.iter().map(str::to_owned)).collect();
    reader.records().map(|record| row(record.unwrap())).collect()
}

#[tokio::test]
async fn csv_has_one_row_for_each_vote() {
    let (room, votes) = voted().await;
    let answer = room.get("/export?format=csv", &room.presenter).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    let rows = read_csv(&answer.body);
    assert_eq!(rows.len(), votes.len());
    for vote in votes {
        let row = rows.iter().find(|row| json!(row["vote_id"]) == vote["id"]).unwrap();
        assert_eq!(row["poll"], vote["poll"].to_string());
        assert_eq!(json!(row["participant"]), vote["participant"]);
        assert!(crate::rest_sessions::is_time(&json!(row["at"])), "{row:?}");
        for number in vote["answer"].to_string().matches(|c: char| c.is_ascii_digit()) {
            assert!(row["answer"].contains(number), "{row:?}");
        }
    }
}

/// No cell begins with what a spreadsheet takes for a formula.
#[tokio::test]
async fn csv_has_no_cell_that_is_a_formula() {
    let (room, _) = voted().await;
    let answer = room.get("/export?format=csv", &room.presenter).await;
    let rows = read_csv(&answer.body);
    assert!(!rows.is_empty());
    for cell in rows.iter().flat_map(HashMap::values) {
        assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{cell:?}");
    }
}

#[tokio::test]
async fn an_export_is_for_the_presenter_and_in_a_known_format() {
    let room = Room::open().await;
    let member = room.join().await;
    problem(&room.get("/export", &member.token).await, 403, "forbidden");
    let answer = room.get("/export?format=xlsx", &room.presenter).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.text());
    let empty = room.get("/export?format=csv", &room.presenter).await;
    assert_eq!((empty.status, read_csv(&empty.body).len()), (200, 0));
    let empty = room.get("/export?format=json", &room.presenter).await.json();
    assert_eq!((&empty["polls"], &empty["votes"]), (&json!([]), &json!([])));
}

/// More votes than fit one page of a cursor; those of other sessions are not among them.
#[tokio::test]
async fn a_large_export_is_complete_and_holds_nothing_of_others() {
    let room = Room::open().await;
    let poll = room.choice(3).await;
    let other = Session::create(&room.api, json!({"title": "Other"})).await;
    let foreign = other.choice(3).await;
    // Straight into the table: the test is about reading, and 5,000 voters take a while.
    let insert = "INSERT INTO votes (session_id, poll, participant, id, answer, batch, at)
        SELECT $1::text::uuid, $2::bigint::int, gen_random_uuid(), gen_random_uuid(), '{1}',
               '00000000-0000-0000-0000-000000000001', date_trunc('milliseconds', now())
        FROM generate_series(1, 5000)";
    let sql = room.db.sql().await;
    for (session, poll) in [(&room.id, poll), (&other.id, foreign)] {
        sql.execute(insert, &[session, &poll]).await.unwrap();
    }
    let batch = "INSERT INTO vote_batches (session_id, batch, poll, seq)
        VALUES ($1::text::uuid, '00000000-0000-0000-0000-000000000001', $2::bigint::int, 1)";
    sql.execute(batch, &[&room.id, &poll]).await.unwrap();
    let stored = stored_votes(&room.db, &room.id).await;
    let export = room.get("/export?format=json", &room.presenter).await.json();
    let exported = export["votes"].as_array().unwrap();
    assert_eq!(exported.len(), 5000);
    assert!(exported.iter().all(|vote| stored.contains_key(vote["id"].as_str().unwrap())));
    let rows = read_csv(&room.get("/export?format=csv", &room.presenter).await.body);
    assert_eq!(rows.len(), 5000);
    assert!(rows.iter().all(|row| stored.contains_key(&row["vote_id"])));
}
