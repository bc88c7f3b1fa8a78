-- The queries of providers.py.

-- name: place
SELECT shop_no, shard FROM shops WHERE shop = $1;

-- name: secrets
-- The newest first.
SELECT p.secret, p.previous_secret FROM providers p JOIN shops h USING (shop_no) WHERE h.shop = $1 AND p.provider = $2;

-- name: make
INSERT INTO providers (shop_no, provider, secret) SELECT shop_no, $2, $3 FROM shops WHERE shop = $1
ON CONFLICT DO NOTHING;

-- name: set
INSERT INTO providers (shop_no, provider, secret) SELECT shop_no, $2, $3 FROM shops WHERE shop = $1
ON CONFLICT (shop_no, provider) DO UPDATE SET secret = excluded.secret, previous_secret = NULL, created_at = now()
RETURNING true;

-- name: rotate
UPDATE providers p SET previous_secret = p.secret, secret = $3, created_at = now() FROM shops h
 WHERE h.shop_no = p.shop_no AND h.shop = $1 AND p.provider = $2
RETURNING true;

-- name: finish
UPDATE providers p SET previous_secret = NULL FROM shops h
 WHERE h.shop_no = p.shop_no AND h.shop = $1 AND p.provider = $2
RETURNING true;

-- name: all
SELECT h.shop, p.provider, p.created_at, p.previous_secret IS NOT NULL AS rotating
  FROM providers p JOIN shops h USING (shop_no)
 WHERE $1::text IS NULL OR h.shop = $1
 ORDER BY h.shop, p.provider;
