-- A process that answers each transfer with a notice.
function compute(process, assignment, opts)
    local quantity = assignment.body.quantity or "0"
    process.results = {
        output = { body = "moved " .. quantity },
        outbox = {
            ["1"] = { Target = "alice", Action = "Credit-Notice", Quantity = quantity }
        }
    }
    return process
end
