%%% @doc `hb_ao' of the stand-in node: it computes scheduled slots of a process, one after
%%% the other, and refuses slots that nobody scheduled.
-module(stand_in_ao).
-export([resolve/2, computations/0, before_slot/1]).

-define(NODE, stand_in_node).

%% @doc The computations so far, oldest first: the process, and the slot that was asked for.
computations() ->
    [Computation || {{computation, _}, Computation} <- lists:sort(ets:tab2list(?NODE))].

%% @doc Call a function before each slot is computed. What it raises fails the computation.
before_slot(Before) -> ets:insert(?NODE, {before_slot, Before}).

%% @doc `hb_ao:resolve/2' with the path of a slot.
resolve(#{<<"path">> := <<"/", Id:43/binary, "~process@1.0/compute&slot=", Number/binary>>}, #{store := [Store | _]}) ->
    Slot = binary_to_integer(Number),
    true = ets:insert(?NODE, {{computation, erlang:unique_integer([monotonic])}, {Id, Slot}}),
    compute(Store, Id, 0, Slot).

compute(_Store, _Id, Slot, Last) when Slot > Last ->
    {ok, #{}};
compute(Store, Id, Slot, Last) ->
    case {is_computed(Store, Id, Slot), is_scheduled(Store, Id, Slot)} of
        {true, _} ->
            compute(Store, Id, Slot + 1, Last);
        {false, true} ->
            [Before(Id, Slot) || {_, Before} <- ets:lookup(?NODE, before_slot)],
            _ = stand_in:compute(Store, Id, Slot, #{<<"output">> => #{<<"body">> => integer_to_binary(Slot)}}),
            compute(Store, Id, Slot + 1, Last);
        {false, false} ->
            {error, not_scheduled}
    end.

is_computed(#{<<"table">> := Table}, Id, Slot) ->
    ets:member(Table, <<"computed/", Id/binary, "/slot/", (integer_to_binary(Slot))/binary>>).

is_scheduled(#{<<"table">> := Table}, Id, Slot) ->
    ets:member(Table, <<"assignments/", Id/binary, "/", (integer_to_binary(Slot))/binary>>).
