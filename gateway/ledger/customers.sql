-- The queries of customers.py.

-- name: first_orders
-- Of orders by (sale, viewer, id): whether each is its viewer's first in the shop; those not decided yet are left out.
SELECT u.order_id, c.order_id = u.order_id AS first
  FROM unnest($1::int[], $2::text[], $3::text[]) AS u(sale_no, viewer, order_id)
  JOIN sales s ON s.sale_no = u.sale_no
  JOIN customers c ON c.shop_no = s.shop_no AND c.viewer = u.viewer;

-- name: new_of_sales
SELECT sale_no, customers FROM sale_customers WHERE sale_no = ANY($1::int[]);
