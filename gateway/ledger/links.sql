-- The queries of links.py.

-- name: place
-- The shop, and the number and time of a link to be.
SELECT shop_no, nextval(pg_get_serial_sequence('links', 'link_no')) AS link_no,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS at_ms
  FROM shops WHERE shop = $1;

-- name: like_it
-- The link of this content, if it was ever made.
SELECT ref FROM links
 WHERE room_no = $1 AND source = $2 AND referrer IS NOT DISTINCT FROM $3 AND guide IS NOT DISTINCT FROM $4;

-- name: insert
INSERT INTO links (link_no, ref, room_no, source, referrer, guide, made_by)
OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (room_no, source, referrer, guide) DO NOTHING RETURNING true;

-- name: by_ref
SELECT ref, source, referrer, guide FROM links WHERE ref = ANY($1::text[]);
