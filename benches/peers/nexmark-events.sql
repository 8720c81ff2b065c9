-- Nexmark's events, a column for each field that one of ../nexmark's queries looks at; `run` fills in what begins with a
-- dollar sign. The columns' names are those by which flink/src/main/java/Columns.java finds them.
CREATE TABLE events (
  event_type INT,
  person ROW<id BIGINT, name VARCHAR, `dateTime` TIMESTAMP(3)>,
  auction ROW<seller BIGINT, `dateTime` TIMESTAMP(3)>,
  bid ROW<
    auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
    `dateTime` TIMESTAMP(3), extra VARCHAR>
) WITH ('connector' = 'nexmark', 'first-event.rate' = '100000', 'next-event.rate' = '100000', 'events.num' = '$events');

CREATE TABLE columns (
  event_type INT, `person.id` BIGINT, `person.name` VARCHAR, `person.dateTime` TIMESTAMP(3), `auction.seller` BIGINT,
  `auction.dateTime` TIMESTAMP(3), `bid.auction` BIGINT, `bid.bidder` BIGINT, `bid.price` BIGINT, `bid.channel` VARCHAR,
  `bid.url` VARCHAR, `bid.dateTime` TIMESTAMP(3), `bid.extra` VARCHAR
) WITH ($columns);

INSERT INTO columns
SELECT event_type, person.id, person.name, person.`dateTime`, auction.seller, auction.`dateTime`, bid.auction, bid.bidder,
  bid.price, bid.channel, bid.url, bid.`dateTime`, bid.extra
FROM events;
