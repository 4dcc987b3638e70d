"""A shop and its billing, which run on different hosts: `shop.yaml` on one, `billing.yaml` on one or several."""
