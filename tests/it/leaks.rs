//! Coming and going leaves nothing behind: tasks, file descriptors, memory.

use crate::support::*;

/// Connections to the database are opened when they are first needed, and the requests for the
/// numbers use some too. A leak of one in ten visits would be more.
const FILES_SPARE: f64 = 12.0;

/// One participant's visit.
async fn visit(session: &Session, server: &Server, poll: i64) {
    let mut guest = session.guest_at(server).await;
    assert_eq!(guest.cast(poll, pick(1)).await["type"], "ack");
    guest.leave().await;
}

/// Waits until nobody is connected and the tasks are as few as before.
async fn settled(server: &Server, tasks: f64) {
    eventually(SOON, "connections and tasks are gone", async || {
        let quiet = server.metric("plenum_connections", &[]).await == 0.0;
        (quiet && server.metric("plenum_tasks", &[]).await <= tasks).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_visits_leave_tasks_descriptors_and_memory_as_they_were() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    for _ in 0..100 {
        visit(&room, &room.server, poll).await;
    }
    eventually(SOON, "everyone has left", async || {
        (room.server.metric("plenum_connections", &[]).await == 0.0).then_some(())
    })
    .await;
    let tasks = room.server.metric("plenum_tasks", &[]).await;
    let files = room.server.metric("process_open_fds", &[]).await;
    let memory = room.server.metric("process_resident_memory_bytes", &[]).await;
    let mut visitors = tokio::task::JoinSet::new();
    let room = std::sync::Arc::new(room);
    for _ in 0..10 {
        let room = std::sync::Arc::clone(&room);
        visitors.spawn(async move {
            for _ in 0..50 {
                visit(&room, &room.server, poll).await;
            }
        });
    }
    visitors.join_all().await;
    settled(&room.server, tasks).await;
    let now = room.server.metric("process_open_fds", &[]).await;
    assert!(now <= files + FILES_SPARE, "{files} file descriptors before, {now} after");
    let grown = room.server.metric("process_resident_memory_bytes", &[]).await - memory;
    // 500 connections of 8 KiB would be 4 MB; the allocator may keep what ten at a time need.
    assert!(grown < 6e6, "memory grew by {grown} bytes");
    assert_eq!(room.results(poll).await["votes"], 600);
}

/// Every way to end badly, many times.
#[tokio::test]
async fn visits_that_end_badly_leave_nothing_either() {
    let room = Room::open().await;
    let poll = room.choice(2).await;
    visit(&room, &room.server, poll).await;
    let tasks = room.server.metric("plenum_tasks", &[]).await;
    let files = room.server.metric("process_open_fds", &[]).await;
    for _ in 0..40 {
        drop(RawSocket::dial(&room.server).await);
        drop(RawSocket::connect(&room.server).await);
        let mut broken = RawSocket::join(&room.server, &room.code).await;
        broken.bytes(&frame(TEXT, b"{\"type\":\"ping\"}")[..9]).await;
        drop(broken);
        let mut wrong = RawSocket::join(&room.server, &room.code).await;
        wrong.send(BINARY, b"x").await;
        assert_eq!(wrong.close_code().await, Some(4400));
        let path = room.path(&format!("/stream?token={}", room.presenter));
        drop(Sse::open(room.server.listen, &path, &[]).await.unwrap());
    }
    // A stream notices that its reader is gone when it has something to say.
    room.retitle("something to say").await;
    room.retitle("and again").await;
    settled(&room.server, tasks).await;
    let now = room.server.metric("process_open_fds", &[]).await;
    assert!(now <= files + FILES_SPARE, "{files} file descriptors before, {now} after");
}
