"""Erlang casts, clients receive: who gets a message, and what arrives of it."""

import base64
import json
import time

from support.case import EngineTest, with_each_client
from support.raw import TEXT, RawClient

TRANSFER = '#{<<"topic">> => <<"prices">>, <<"action">> => <<"Transfer">>, <<"data">> => <<"x">>}'
OTHER = '#{<<"topic">> => <<"weather">>, <<"action">> => <<"Rain">>}'
MIB = 1024 * 1024


@with_each_client
class Delivery:
    async def test_a_message_of_two_subscribed_topics_arrives_once(self):
        client = await self.connect("prices,action:Transfer")
        self.vm.cast(TRANSFER)
        self.vm.cast('#{<<"topic">> => <<"prices">>, <<"data">> => <<"the next one">>}')
        self.assertEqual((await client.message())["data"]["data"], "x")
        self.assertEqual((await client.message())["data"]["data"], "the next one")

    async def test_a_message_of_other_topics_does_not_arrive(self):
        client = await self.connect("prices,action:Transfer")
        self.vm.cast(OTHER)
        self.vm.cast('#{<<"data">> => <<"no topic at all">>}')
        self.vm.cast(TRANSFER)
        self.assertEqual((await client.message())["data"]["data"], "x")

    async def test_a_message_frame_has_the_documented_fields(self):
        before = time.time() * 1000
        client = await self.connect("action:Transfer")
        self.vm.cast(TRANSFER)
        frame = await client.message()
        self.assertEqual(set(frame), {"type", "seq", "timestamp", "topic", "topics", "data"})
        self.assertEqual(frame["topic"], "prices")
        self.assertEqual(frame["topics"], ["prices", "action:Transfer"])
        self.assertEqual(frame["data"], {"topic": "prices", "action": "Transfer", "data": "x"})
        self.assertEqual(frame["seq"], client.established["seq"] + 1)
        self.assertGreaterEqual(frame["timestamp"], int(before))
        self.assertLessEqual(frame["timestamp"], time.time() * 1000)

    async def test_data_of_every_kind_arrives_intact(self):
        client = await self.connect("kinds")
        self.vm.cast("""#{<<"topic">> => <<"kinds">>,
            <<"text">> => <<"Gr\\x{fc}\\x{df}e, \\x{4e16}\\x{754c} \\x{1f680} \\"\\\\ \\x{0}\\n"/utf8>>,
            <<"schl\\x{fc}ssel"/utf8>> => 1, <<"bytes">> => <<0, 255, 254, 128, 1>>,
            <<"exact">> => 9007199254740992, <<"beyond">> => 9007199254740993, <<"below">> => -9007199254740993,
            <<"big">> => 1 bsl 200, <<"float">> => 3.14, <<"yes">> => true, <<"none">> => null, <<"atom">> => 'an atom',
            <<"list">> => [1, <<"two">>, #{<<"three">> => 3}], <<"empty">> => #{}, <<"json">> => <<"{\\"a\\":1}">>,
            <<"lazy">> => {link, <<"Rm4FVaxOPUsKLSnENMl_zt_X0MOhZ9NReK41Fu2nnT8">>, #{<<"lazy">> => true}},
            <<"pid">> => self()}""")
        data = (await client.message())["data"]
        self.assertEqual(data["text"], "Grüße, 世界 🚀 \"\\ \0\n")
        self.assertEqual(data["schlüssel"], 1)
        self.assertEqual(data["bytes"], {"$base64url": base64.urlsafe_b64encode(bytes([0, 255, 254, 128, 1])).decode().rstrip("=")})
        self.assertEqual(data["exact"], 2**53)
        self.assertEqual((data["beyond"], data["below"], data["big"]), (str(2**53 + 1), str(-(2**53) - 1), str(2**200)))
        self.assertEqual((data["float"], data["yes"], data["none"], data["atom"]), (3.14, True, None, "an atom"))
        self.assertEqual(data["list"], [1, "two", {"three": 3}])
        self.assertEqual(data["empty"], {})
        self.assertEqual(data["json"], '{"a":1}')
        self.assertEqual(data["lazy"], {"$link": "Rm4FVaxOPUsKLSnENMl_zt_X0MOhZ9NReK41Fu2nnT8"})
        self.assertEqual(data["pid"], {"$omitted": "pid"})

    async def test_a_message_of_one_mebibyte_arrives_and_one_byte_more_is_counted(self):
        client = await self.connect("large")
        frame_of = '#{{<<"topic">> => <<"large">>, <<"data">> => binary:copy(<<"d">>, {})}}'
        room = MIB - len(json.dumps({"topic": "large", "data": ""}, separators=(",", ":")))
        before = self.vm.stats()
        self.vm.cast(frame_of.format(room + 1))
        self.vm.cast(frame_of.format(room))
        self.assertEqual((await client.message())["data"], {"topic": "large", "data": "d" * room})
        after = self.vm.stats()
        self.assertEqual(after["dropped_too_large"], before["dropped_too_large"] + 1)
        self.assertEqual(after["publications"], before["publications"] + 1)

    async def test_a_subscriber_of_everything_gets_messages_without_topics(self):
        client = await self.connect("*")
        self.vm.cast('#{<<"data">> => <<"no topic at all">>}')
        frame = await client.message()
        self.assertEqual((frame["topic"], frame["topics"]), (None, []))

    async def test_topics_in_a_url_are_decoded_and_told_back(self):
        client = await self.connect("gr%C3%BC%C3%9Fe,a%2Cb%20,,a&topic=with+space&utm=1")
        self.assertEqual(client.established["subscribed_topics"], ["grüße", "a", "b", "with space"])
        self.assertEqual(client.established["ignored"], ["utm"])
        self.vm.cast('#{<<"topic">> => <<"gr\\x{fc}\\x{df}e"/utf8>>}')
        self.assertEqual((await client.message())["topic"], "grüße")


class WhoGetsWhat(EngineTest):
    async def test_tags_count_wherever_they_stand_and_however_they_are_written(self):
        client = await self.subscriber("action:Mint")
        for message in (
            '#{<<"Action">> => <<"Mint">>, <<"data">> => 1}',
            '#{<<"tags">> => #{<<"ACTION">> => <<"Mint">>}, <<"data">> => 2}',
            '#{<<"Tags">> => [#{<<"name">> => <<"Action">>, <<"value">> => <<"Mint">>}], <<"data">> => 3}',
            '#{action => <<"Mint">>, data => 4}',
            '[{action, <<"Mint">>}, {"data", 5}]',
        ):
            self.vm.cast(message)
        self.assertEqual([(await client.message())["data"]["data"] for _ in range(5)], [1, 2, 3, 4, 5])

    async def test_nobody_can_publish_under_a_key_that_is_the_nodes_own(self):
        client = await self.subscriber("process:abc,from:me,/abc~process@1.0,ok")
        before = self.vm.stats()["topics_reserved"]
        self.vm.cast('#{<<"process">> => <<"abc">>, <<"from">> => <<"me">>}')
        self.vm.cast('#{<<"topic">> => <<"process:abc,/abc~process@1.0">>}')
        self.vm.cast('#{<<"topic">> => <<"ok">>}')
        self.assertEqual((await client.message())["topic"], "ok")
        self.assertEqual(self.vm.stats()["topics_reserved"], before + 2)

    async def test_keys_of_the_node_and_commitments_do_not_leave_it(self):
        client = await self.subscriber("guarded")
        self.vm.cast("""#{<<"topic">> => <<"guarded">>, <<"priv">> => 1, <<"priv_wallet">> => 2, privkey => 3,
            <<"commitments">> => #{}, <<"deep">> => [#{<<"private">> => 4, <<"open">> => 5}]}""")
        self.assertEqual((await client.message())["data"], {"topic": "guarded", "deep": [{"open": 5}]})

    async def test_raw_format_is_the_data_alone(self):
        with RawClient(self.uri) as client:
            client.upgrade("/ws?topic=plain&format=raw")
            # There is no first frame that would tell when the subscription holds, so the topic itself does.
            self.vm.await_topic("plain")
            self.vm.cast('#{<<"topic">> => <<"plain">>, <<"data">> => <<"x">>}')
            self.assertEqual(client.frame(), (TEXT, b'{"data":"x","topic":"plain"}'))

    async def test_what_is_no_message_is_cast_without_harm(self):
        client = await self.subscriber("*")
        for term in ("garbage", "<<1:3>>", '"text"', "[a | b]", "{a, {b}}", "#{[] => {}, 1.5 => fun() -> ok end}", "make_ref()"):
            self.vm.cast(term)
        self.vm.cast('#{<<"data">> => <<"last">>}')
        frames = [await client.message() for _ in range(8)]
        self.assertEqual(frames[-1]["data"], {"data": "last"})

    async def test_info_lists_topics_with_subscribers_and_those_published_to(self):
        published = '#{<<"topic">> => <<"info-published">>, <<"action">> => <<"Info-Action">>}'
        subscribed = await self.subscriber("info-subscribed,info-published")
        self.vm.cast(published)
        await subscribed.message()
        topics = set(self.vm.topics())
        self.assertLessEqual({"info-subscribed", "info-published", "action:Info-Action"}, topics)
        await subscribed.close()
        self.vm.await_connections(0)
        topics = set(self.vm.topics())
        self.assertNotIn("info-subscribed", topics)
        self.assertLessEqual({"info-published", "action:Info-Action"}, topics)
