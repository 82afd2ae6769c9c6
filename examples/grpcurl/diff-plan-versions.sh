#!/bin/sh
# What version 1 of gold has that nothing has: all of it.
exec grpcurl -plaintext -d @ "${TESSERA_CONTROL_ADDR:-127.0.0.1:7401}" tessera.v1.PlanService/DiffPlanVersions <<'EOF'
{
  "plan_id": "gold",
  "from_version": 0,
  "to_version": 1
}
EOF
