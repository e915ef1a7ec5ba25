//! What one client can make the server spend.

use super::*;

#[tokio::test]
async fn a_binary_part_has_one_place() {
    let (node, _application) = with_application(&[]).await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    let place = "{\"_placeholder\":true,\"num\":0}";
    client.send(&format!("451-1[\"message-with-ack\",{place}]")).await;
    client.binary(b"a").await;
    client.expect(&["461-1[{\"_placeholder\":true,\"num\":0}]", "[97]"]).await;
    // Joined, this event would have 1.2 GB.
    client.send(&format!("451-[\"message\"{}]", format!(",{place}").repeat(3000))).await;
    client.binary(&vec![0; 300_000]).await;
    client.closed().await;
    let (mut client, _) = Client::connected(&node).await;
    client.expect(&["42[\"auth\",{}]"]).await;
    // A part that is too long for an event is refused, and the client goes on.
    client.send(&format!("451-1[\"message\",{place}]")).await;
    client.binary(&vec![0; 300_000]).await;
    let answer = client.next().await;
    assert!(answer.starts_with("431[{\"error\":{\"code\":\"too_large\""), "{answer}");
    client.send("422[\"message-with-ack\",2]").await;
    client.expect(&["432[2]"]).await;
}
