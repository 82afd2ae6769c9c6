#!/bin/sh
# What the add-on extra-seats is.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.AddOnService/GetAddOn <<'EOF'
{
  "add_on_id": "extra-seats"
}
EOF
