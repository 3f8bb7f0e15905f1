"""Word lists of the Larkfield world: plain data. Names are common words; no real person or firm is meant."""
# ruff: noqa: SIM905 (word lists read best as prose)

# first names
FIRST = (
    "Ruth Alan Mary Peter Clara Hugo Nora Felix Ivy Oscar Lena Martin Elsa Victor Rosa Dennis Helen Frank Julia "
    "Simon Anna Leo Grace Walter Edith Samuel Paula Robert Irene Thomas Agnes Philip Laura Conrad Stella Gavin "
    "Diana Brian Olive Stuart Carla Neil Tessa Ralph Wendy Ivan Molly Karl Fiona Derek Sonia Colin Marta Howard "
    "Lucy Edgar Zoe Marcus Hazel Bruno Petra Glen Vera Lewis Amy Hector Joan Miles Ella Duncan Kate Roland Alice "
    "Gordon Nina Cyril Rita Arthur Dora Harvey"
).split()
# last names
LAST = (
    "Hale Brook Stone Marsh Field Carter Webb Shaw Nash Pike Lowe Frost Doyle Grant Hurst Keane Lamb Moss Noble "
    "Parr Quill Rowe Sharp Tate Usher Vance Wade York Abbot Baker Cole Drake Ellis Fox Gould Hayes Innes Jarvis "
    "Kemp Lyle Mercer Norris Orton Platt Reeve Slade Thorn Upton Vickers Wells Archer Bell Crane Dale Eaton Flint "
    "Green Holt Irwin Judd King Lang Moore Neal Owen Price Rudd Sykes Todd Vaughan Ward Avery Booth Clegg Dixon "
    "Emery Ford Gibbs Hobbs Ingram Joyce Kirk Leigh Mann Nolan Ogden Penn Rand Swift Tully Unwin Vale Wragg Adler "
    "Birch Clay"
).split()
# a town is a head and a tail: Thorn + leigh
TOWN_HEAD = (
    "Ash Brad Cran Dun East Fair Gold Hart Ivy King Lang Mil Nor Oak Pem Red Stan Thorn Wal West Brom Cor Hather "
    "Mar Win Sel"
).split()
TOWN_TAIL = "ford ton field wick ham bury leigh port mouth gate worth dale".split()
# product lines
LINE = (
    "Velmo Nordia Karo Tessel Brisa Lumen Orbit Cedar Fjord Pavo Solis Zephyr Amber Quarto Rondo Sable Tavira "
    "Umbra Vireo Wexa Alto Bolero Cobalt Dorado Ember Fresco Gala Helio Indigo Jasper Kestrel Lyra Mira Nimbus "
    "Onyx Prisma Raven Sierra Tundra Vesper"
).split()
# kinds of goods
THING = (
    "lamp kettle chair table sofa desk rug mirror shelf heater toaster drill ladder clock fan stool bench blender "
    "vase cabinet mattress bin pan tap curtain iron grill tent hose lock"
).split()
# a plan is a head and a tail: Silver card
PLAN_HEAD = (
    "Silver Harbour Garden Family Student Bronze Winter Summer Trade Builder Weekend Coastal Junior Senior Maple "
    "Linden Granite Copper River Meadow Beacon Falcon Willow Pioneer Velvet Orchard Compass Anchor Lantern "
    "Heritage"
).split()
PLAN_TAIL = "plan card club pass scheme".split()
COLOUR = (
    "white black red green blue grey brown yellow orange purple pink cream navy silver gold beige teal ivory "
    "olive maroon copper turquoise lilac charcoal"
).split()
TEAM = (
    "Lighting Kitchens Gardens Flooring Paint Delivery Returns Security Tools Bedrooms Bathrooms Finance Repairs "
    "Training Stock Checkout Windows Heating Plumbing Fabrics"
).split()
DAY = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
STREET = (
    "Mill Church Station Park Bridge High Queen Castle Market Abbey Canal Forge Grove Chapel Victoria Spring "
    "Meadow Harbour Temple Orchard"
).split()
STREET_TAIL = "Lane Street Road Avenue Way".split()
# endings of company names
MAKER_TAIL = "Works Brothers Home Studio Industries".split()
# Chinese family names, one character each
ZH_SUR = "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧"
# given names are two of these
ZH_GIVEN = "明华伟芳娜静丽强磊军洋勇艳杰娟涛超兰霞平刚桂英玉萍红宇晨雪梅建国志文海云龙凤春秋安宁思远嘉欣子涵"
# a Chinese town is one of each list
ZH_TOWN1 = "青临东西南北白清长安金石松柳云龙凤梅竹兰平永新古"
ZH_TOWN2 = "山河湖江城原桥溪泉门岭港湾园谷林"
ZH_LINE = "松木 云朵 极光 海浪 晨曦 银河 青竹 枫叶 琥珀 星辰 白鹭 彩虹 山岚 暖阳 清风 雪松 月影 流光 春雨 金穗".split()
ZH_THING = "台灯 水壶 椅子 桌子 沙发 书桌 地毯 镜子 书架 风扇 闹钟 花瓶 柜子 床垫 窗帘 电钻 梯子 烤箱 长凳 锅".split()
ZH_PLAN1 = "银卡 金卡 海港 花园 家庭 学生 冬季 夏季 周末 枫树 河流 灯塔 先锋 果园 罗盘 传承 铜卡 春风 蓝天 绿洲".split()
ZH_PLAN2 = "会员 计划 套餐 方案".split()
ZH_COLOUR = "白色 黑色 红色 绿色 蓝色 灰色 棕色 黄色 橙色 紫色 粉色 米色 银色 金色 青色".split()
ZH_TEAM = (
    "照明组 厨房组 园艺组 地板组 油漆组 配送组 退货组 保安组 工具组 卧室组 财务组 维修组 培训组 库存组 收银组"
).split()
ZH_DAY = "周一 周二 周三 周四 周五 周六 周日".split()
